package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/vishvananda/netns"
)

// traffic is what packets and connections took through each node; the same round of each was measured within the same second.
type traffic struct {
	// connections a second of the client's processor time, by "side/target", one for each round; elapsed are those a
	// second of the clock, which whatever else the machine does slows down.
	connections map[string]samples
	elapsed     map[string]samples
	connectP50  map[string]samples // seconds
	connectP99  map[string]samples
	first       map[string]samples // seconds: the median of a round
	firstP99    map[string]samples
	established map[string]samples
	estP99      map[string]samples
}

// The ways to the endpoints.
const (
	straight  = "straight to a pod"
	clusterIP = "ClusterIP"
	nodePort  = "NodePort"
	balancer  = "LoadBalancer"
)

// way is a way through one side.
type way struct {
	side *side
	name string
	connector
}

func (w way) key() string { return w.side.name + "/" + w.name }

// ways lists where connections are made. From inside it is a pod that asks, from outside the client.
func (b *bench) ways() []way {
	target := func(s *side, name string, ns netns.NsHandle, to string, port uint16) way {
		return way{s, name, connector{ns, netip.AddrPortFrom(netip.MustParseAddr(to), port)}}
	}
	all := []way{target(b.bare, straight, b.bare.pod, realEndpoint(0), probePort), target(b.one, clusterIP, b.one.pod, probeIP, probePort)}
	for _, x := range []*proxy{b.kubeProxy, b.fairlead} {
		all = append(all,
			target(x.side, straight, x.pod, realEndpoint(0), probePort), target(x.side, clusterIP, x.pod, probeIP, probePort),
			target(x.side, nodePort, x.client, nodeAddress, probeNodePort), target(x.side, balancer, x.client, probeBalancer, probePort))
	}
	return all
}

// packets measures with both programs stopped: their rules stay, and nothing else moves.
func (b *bench) packets(ctx context.Context) (traffic, error) {
	t := traffic{
		connections: map[string]samples{}, elapsed: map[string]samples{}, connectP50: map[string]samples{}, connectP99: map[string]samples{},
		first: map[string]samples{}, firstP99: map[string]samples{}, established: map[string]samples{}, estP99: map[string]samples{},
	}
	for _, x := range []*proxy{b.kubeProxy, b.fairlead} {
		if err := x.proc.pause(); err != nil {
			return t, err
		}
		if err := x.shorten(); err != nil {
			return t, err
		}
	}
	if err := b.one.shorten(); err != nil {
		return t, err
	}
	all := b.ways()
	flows, err := b.establish(all)
	if err != nil {
		return t, err
	}
	for round := range b.rounds {
		if err := b.round(ctx, round, all, flows, t); err != nil {
			return t, err
		}
	}
	return t, nil
}

// establish makes a flow each way. After that no endpoint reads any more.
func (b *bench) establish(all []way) (map[string]*flow, error) {
	var silence []func() error
	for _, s := range []*side{b.bare, b.one, b.kubeProxy.side, b.fairlead.side} {
		silence = append(silence, s.answering())
	}
	flows := map[string]*flow{}
	var err error
	for _, w := range all {
		f, failed := w.establish()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", w.key(), failed))
		}
		flows[w.key()] = f
	}
	for _, s := range silence {
		err = errors.Join(err, s())
	}
	return flows, err
}

// How much is done of each in a round.
const (
	connectTime   = 80 * time.Millisecond
	firstPackets  = 400
	laterPackets  = 1000
	firstPort     = 1024
	portsOfARound = firstPackets
)

// round measures every way once; where it begins moves on from round to round.
func (b *bench) round(ctx context.Context, round int, all []way, flows map[string]*flow, t traffic) error {
	for i := range all {
		w := all[(i+round)%len(all)]
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took, used, err := w.connects(connectTime)
		if err != nil {
			return fmt.Errorf("%s: %w", w.key(), err)
		}
		t.connections[w.key()] = append(t.connections[w.key()], float64(len(took))/used)
		t.elapsed[w.key()] = append(t.elapsed[w.key()], float64(len(took))/took.sum())
		t.connectP50[w.key()] = append(t.connectP50[w.key()], took.median())
		t.connectP99[w.key()] = append(t.connectP99[w.key()], took.quantile(0.99))
	}
	for i := range all {
		w := all[(i+round)%len(all)]
		source := netip.MustParseAddr(podAddress)
		if w.ns == w.side.client {
			source = netip.MustParseAddr(clientAddress)
		}
		took, err := w.firsts(source, firstPort+round*portsOfARound%60000, firstPackets)
		if err != nil {
			return err
		}
		t.first[w.key()] = append(t.first[w.key()], took.median())
		t.firstP99[w.key()] = append(t.firstP99[w.key()], took.quantile(0.99))
		if took, err = flows[w.key()].sends(laterPackets); err != nil {
			return err
		}
		t.established[w.key()] = append(t.established[w.key()], took.median())
		t.estP99[w.key()] = append(t.estP99[w.key()], took.quantile(0.99))
	}
	return nil
}

func nftCommand(args ...string) *exec.Cmd { return exec.Command("nft", args...) }
