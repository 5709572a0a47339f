package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What the measuring client does: a new connection every probeEvery, given up after probeTimeout.
const (
	probeEvery   = 10 * time.Millisecond
	probeTimeout = 300 * time.Millisecond
	// steadyFor is how long everything must succeed before a cut and after an outage.
	steadyFor = 2 * time.Second
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
	flags.StringVar(&o.cut, "cut", "link", "link (lose all frames of the owner), node (that, and stop all its processes), process (stop the announcer's process), pod (delete the announcer's pod)")
	flags.StringVar(&o.from, "from", "client", "the host that measures")
	flags.StringVar(&o.process, "process", "speaker", "name of the announcer's binary, for --cut process")
	flags.StringVar(&o.cutHost, "host", "", "the host to cut (default: the one whose MAC address answers for the address)")
	flags.StringVar(&o.podNS, "pod-namespace", demoNamespace, "namespace of the announcer's pods, for --cut pod")
	flags.StringVar(&o.podLabel, "pod-selector", "app.kubernetes.io/component=speaker", "labels of the announcer's pods, for --cut pod")
	flags.IntVar(&o.runs, "runs", 10, "how often")
	flags.BoolVar(&o.asJSON, "json", false, "print the figures as JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.address, err = netip.ParseAddr(address); err != nil {
		return o, fmt.Errorf("--address %q: write the external address of a Service", address)
	}
	switch o.cut {
	case "link", "node", "process", "pod":
	default:
		return o, fmt.Errorf("--cut %q: write link, node, process or pod", o.cut)
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
		run, err := l.measureOutage(ctx, o)
		if err != nil {
			return fmt.Errorf("run %d of %d: %w", i+1, o.runs, err)
		}
		fmt.Fprintf(progressOut, "run %d of %d: %s %s: first success after %.2f s, last failure %.2f s\n",
			i+1, o.runs, o.cut, run.Host, run.FirstSuccess, run.LastFailure)
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
	if err := p.waitSteady(ctx, time.Now()); err != nil {
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
	recovered := p.waitSteady(ctx, cutAt)
	p.stop()
	owners := seen()
	if err := errors.Join(recovered, mend()); err != nil {
		return outage{}, err
	}
	result := measure(target.Name, cutAt, p.attempts())
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

// cut silences a host and returns what mends it.
func (l lab) cut(ctx context.Context, h host, o failoverOptions) (func() error, error) {
	if o.cut == "pod" {
		return func() error { return nil }, l.deletePod(ctx, h, o)
	}
	var pids []int
	var err error
	switch o.cut {
	case "process":
		pids, err = processesIn(h, o.process)
		if err == nil && len(pids) == 0 {
			err = fmt.Errorf("no process %q runs on %s: name the announcer's binary with --process", o.process, h.Name)
		}
	case "node":
		pids, err = processesIn(h, "")
	}
	if err != nil {
		return nil, err
	}
	if o.cut != "process" {
		if err := setLink(h, "silent"); err != nil {
			return nil, err
		}
	}
	mend := func() error {
		errs := []error{sendSignal(pids, unix.SIGCONT)}
		if o.cut != "process" {
			errs = append(errs, setLink(h, "up"))
		}
		return errors.Join(errs...)
	}
	return mend, sendSignal(pids, unix.SIGSTOP)
}

// deletePod deletes the announcer's pod of a host, as a rollout or a user would. Its successor comes by itself.
func (l lab) deletePod(ctx context.Context, h host, o failoverOptions) error {
	s, err := l.loadSettings()
	if err != nil {
		return err
	}
	out, err := l.kubectlOf(ctx, s, "", "delete", "pod", "--wait=false", "-n", o.podNS, "-l", o.podLabel, "--field-selector", "spec.nodeName="+h.Name)
	if err == nil && out == "" {
		err = fmt.Errorf("no pod with the labels %s runs on %s in namespace %s", o.podLabel, h.Name, o.podNS)
	}
	return err
}

func sendSignal(pids []int, s unix.Signal) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// processesIn lists the processes in a host's network namespace, all or those of one binary's name.
func processesIn(h host, binary string) ([]int, error) {
	var want, have unix.Stat_t
	if err := unix.Stat(netnsPath(h.netnsName()), &want); err != nil {
		return nil, fmt.Errorf("find the processes of %s: %w", h.Name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the processes of %s: %w", h.Name, err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if unix.Stat(filepath.Join("/proc", entry.Name(), "ns", "net"), &have) != nil || have.Ino != want.Ino {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err == nil && (binary == "" || filepath.Base(exe) == binary) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// A probe is a running measuring client: this program again, inside a host.
type probe struct {
	cmd  *exec.Cmd
	once sync.Once
	done chan struct{}

	mu   sync.Mutex
	seen []attempt
}

func (l lab) startProbe(from host, o failoverOptions) (*probe, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the measuring client: %w", err)
	}
	url := "http://" + netip.AddrPortFrom(o.address, uint16(o.port)).String() + "/hostname"
	p := &probe{cmd: exec.Command(self, "probe", url), done: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the measuring client: %w", err)
	}
	if err := l.start(from, p.cmd); err != nil {
		return nil, fmt.Errorf("start the measuring client on %s: %w", from.Name, err)
	}
	go p.collect(output)
	return p, nil
}

func (p *probe) collect(output io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var a attempt
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue
		}
		p.mu.Lock()
		p.seen = append(p.seen, a)
		p.mu.Unlock()
	}
}

// stop ends the client and waits for its last line. It may be called again.
func (p *probe) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = p.cmd.Wait()
	})
}

func (p *probe) attempts() []attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]attempt(nil), p.seen...)
}

// waitSteady waits until every attempt of steadyFor has succeeded, all started at since or later.
func (p *probe) waitSteady(ctx context.Context, since time.Time) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(outageLimit)
	for {
		bad, last := since, since
		reason := "no attempt was made"
		for _, a := range p.attempts() {
			if !a.OK && a.Start.After(bad) {
				bad, reason = a.Start, a.Error
			}
			if a.OK && a.Start.After(last) {
				last = a.Start
			}
		}
		if last.Sub(bad) >= steadyFor {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not every attempt succeeds after %s; the last failure: %s", outageLimit, reason)
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("the measuring client ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probeMain is the measuring client: it prints an attempt a line until it is killed.
func probeMain(ctx context.Context, url string, out io.Writer) error {
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	client := &http.Client{
		Timeout:   probeTimeout,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		go func() {
			a := try(ctx, client, url)
			mu.Lock()
			defer mu.Unlock()
			_ = encoder.Encode(a)
		}()
	}
}

// try makes one connection with one request.
func try(ctx context.Context, client *http.Client, url string) attempt {
	a := attempt{Start: time.Now()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err == nil {
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			a.OK = err == nil && response.StatusCode == http.StatusOK
		}
	}
	a.Took = time.Since(a.Start)
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
