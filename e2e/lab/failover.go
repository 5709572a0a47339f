package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// probeTimeout is when the measuring client gives up on a new connection, and keptTimeout on one that is kept.
	probeTimeout = 300 * time.Millisecond
	keptTimeout  = 2 * time.Second
	// steadyFor is how long everything must succeed before a cut and after an outage.
	steadyFor = 2 * time.Second
	// podsGoOn is for how long an evicted pod of the sample surely serves the connections it has: its preStop hook
	// sleeps for 10 s.
	podsGoOn = 8 * time.Second
	// outageLimit is when the measurement gives up on a recovery.
	outageLimit = 120 * time.Second
)

// failoverOptions are what `lab failover` is asked for.
type failoverOptions struct {
	address  netip.Addr
	port     int
	cut      string
	from     string
	process  string
	runs     int
	rate     int
	kept     int
	lasts    time.Duration
	pause    time.Duration
	asJSON   bool
	cutHost  string
	podNS    string
	podLabel string
}

func parseFailover(args []string) (failoverOptions, error) {
	var o failoverOptions
	var address string
	flags := flag.NewFlagSet("failover", flag.ContinueOnError)
	flags.StringVar(&address, "address", "", "the announced address to measure")
	flags.IntVar(&o.port, "port", 80, "its HTTP port")
	flags.StringVar(&o.cut, "cut", "link", "link (lose all frames of the owner), node (that, and stop all its processes), process (stop the announcer's process), pod (delete the announcer's pod), cordon (kubectl cordon the owner's node, and uncordon it), drain (kubectl drain it, and uncordon it)")
	flags.StringVar(&o.from, "from", "client", "the host that measures")
	flags.StringVar(&o.process, "process", "speaker", "name of the announcer's binary, for --cut process")
	flags.StringVar(&o.cutHost, "host", "", "the host to cut (default: the one whose MAC address answers for the address)")
	flags.StringVar(&o.podNS, "pod-namespace", demoNamespace, "namespace of the announcer's pods, for --cut pod")
	flags.StringVar(&o.podLabel, "pod-selector", "app.kubernetes.io/component=speaker", "labels of the announcer's pods, for --cut pod")
	flags.IntVar(&o.runs, "runs", 10, "how often")
	flags.IntVar(&o.rate, "rate", 100, "new connections a second")
	flags.IntVar(&o.kept, "kept", 0, "connections that stay open, with a request every 100 ms on each")
	flags.DurationVar(&o.lasts, "for", 0, "how long the client goes on after a cut at least (default: until everything has succeeded for 2s; of a cordon 8s and of a drain 16s, half of it before the evicted pods end, for all their steps to be within)")
	flags.DurationVar(&o.pause, "pause", 0, "how long to wait between runs: BFD takes some seconds to watch a session that is new")
	flags.BoolVar(&o.asJSON, "json", false, "print the figures as JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.address, err = netip.ParseAddr(address); err != nil {
		return o, fmt.Errorf("--address %q: write the external address of a Service", address)
	}
	switch o.cut {
	case "link", "node", "process", "pod", "cordon", "drain":
	default:
		return o, fmt.Errorf("--cut %q: write link, node, process, pod, cordon or drain", o.cut)
	}
	if o.lasts == 0 {
		o.lasts = map[string]time.Duration{"cordon": 8 * time.Second, "drain": 16 * time.Second}[o.cut]
	}
	if o.rate < 1 || o.rate > 1000 || o.kept < 0 {
		return o, errors.New("--rate, --kept: write from 1 to 1000 new connections a second, and from 0 kept ones")
	}
	if o.runs < 1 {
		return o, errors.New("--runs: write a number from 1")
	}
	return o, nil
}

func (l lab) failoverCommand(ctx context.Context, args []string) error {
	return l.failover(ctx, args, os.Stdout, os.Stderr)
}

// failover measures outages of an address. It knows nothing about who announces it.
func (l lab) failover(ctx context.Context, args []string, out, progressOut io.Writer) error {
	o, err := parseFailover(args)
	if err != nil {
		return err
	}
	f := figures{Address: o.address.String(), Cut: o.cut, From: o.from}
	for i := range o.runs {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(o.pause):
			}
		}
		run, err := l.measureOutage(ctx, o)
		if err != nil {
			return fmt.Errorf("run %d of %d: %w", i+1, o.runs, err)
		}
		fmt.Fprintf(progressOut, "run %d of %d: %s %s: first success after %.2f s, last failure %.2f s, %d failed, %d lost, seen at %v\n",
			i+1, o.runs, o.cut, run.Host, run.FirstSuccess, run.LastFailure, run.Failed, run.Lost, run.Owners)
		f.Runs = append(f.Runs, run)
	}
	f.Load = loadAverage()
	f = f.summarise()
	if o.asJSON {
		return json.NewEncoder(out).Encode(f)
	}
	return f.print(out)
}

// measureOutage runs the client, cuts, waits for the recovery, and mends.
func (l lab) measureOutage(ctx context.Context, o failoverOptions) (outage, error) {
	from, err := findHost(o.from)
	if err != nil {
		return outage{}, err
	}
	p, err := l.startProbe(from, o)
	if err != nil {
		return outage{}, err
	}
	defer p.stop()
	if err := p.waitSteady(ctx, time.Now(), 0); err != nil {
		return outage{}, fmt.Errorf("before the cut: %w", err)
	}
	target, err := l.owner(from, o)
	if err != nil {
		return outage{}, err
	}
	seen := l.watchOwner(ctx, from, o, target.Name)
	cutAt := time.Now()
	mend, err := l.cut(ctx, target, o)
	if err != nil {
		return outage{}, err
	}
	if o.cut == "link" || o.cut == "node" {
		cutAt = time.Now()
	}
	until := o.lasts
	if o.cut == "drain" {
		until = min(until, podsGoOn)
	}
	recovered := p.waitSteady(ctx, cutAt, until)
	var ending time.Time
	if o.cut == "drain" {
		ending = time.Now()
	}
	if o.cut == "cordon" || o.cut == "drain" || o.cut == "pod" { // what comes then, mostly the way back, is a planned move, too
		recovered = errors.Join(recovered, mend())
		mend = func() error { return nil }
		recovered = errors.Join(recovered, p.waitSteady(ctx, time.Now(), until))
	}
	p.stop()
	owners := seen()
	if err := errors.Join(recovered, mend()); err != nil {
		return outage{}, err
	}
	result := measure(target.Name, cutAt, ending, p.attempts())
	result.Owners = owners
	return result, l.settle(ctx)
}

// settle waits until all nodes are ready again, so that the next run starts from the same state.
func (l lab) settle(ctx context.Context) error {
	s, err := l.loadSettings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, outageLimit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = l.nodesReady(ctx, s); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("after the run: %w", err)
		}
	}
}

// owner finds the host to cut: the one whose MAC address the measuring host has learned for the address.
func (l lab) owner(from host, o failoverOptions) (host, error) {
	if o.cutHost != "" {
		return findHost(o.cutHost)
	}
	return l.neighbour(from, o.address)
}

// neighbour returns the host of the lab whose MAC address another has learned for an address.
func (l lab) neighbour(from host, address netip.Addr) (host, error) {
	var mac string
	err := onThread(func() error {
		if err := l.enter(from); err != nil {
			return err
		}
		neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("read the neighbours of %s: %w", from.Name, err)
		}
		for _, n := range neighbours {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && addr.Unmap() == address {
				mac = n.HardwareAddr.String()
			}
		}
		return nil
	})
	if err != nil {
		return host{}, err
	}
	for _, h := range hosts() {
		for _, n := range h.NICs {
			if net.HardwareAddr(n.mac()).String() == mac {
				return h, nil
			}
		}
	}
	return host{}, fmt.Errorf("no host of the lab has the MAC address %q that %s learned for %s: name the host to cut with --host", mac, from.Name, address)
}

// watchOwner notes which hosts the measuring host sends its packets to, until the returned function is called.
func (l lab) watchOwner(ctx context.Context, from host, o failoverOptions, first string) func() []string {
	ctx, cancel := context.WithCancel(ctx)
	owners := []string{first}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			h, err := l.neighbour(from, o.address)
			if err == nil && !slices.Contains(owners, h.Name) {
				owners = append(owners, h.Name)
			}
		}
	}()
	return func() []string {
		cancel()
		<-done
		return owners
	}
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
