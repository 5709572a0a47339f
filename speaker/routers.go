package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/nft"
)

const (
	// firstWish is how long the first routes wait at most. They wait for forwarding to come
	// round: what they attract right after a boot of the node would meet no rules; without an
	// API server it does not come round, and what an earlier speaker left in the kernel still
	// forwards. And they wait for gossip: a node that is drained leaves to the others only what they can serve.
	firstWish = 10 * time.Second
	// readAgain is how often the routes are made anew although no bell rang.
	readAgain = 10 * time.Second
	// rivalEvery is how often other programs' sessions are looked for.
	rivalEvery = 10 * time.Second
	// goodbye bounds how long a speaker that ends goes on asking peers to prefer other
	// nodes: the kubelet gives it 15 s in all.
	goodbye = 8 * time.Second
	// noticeTime is what a router has to notice that a connection has ended.
	noticeTime = 500 * time.Millisecond
	// shortGoodbye is the same for peers that would forget a speaker which only restarts.
	shortGoodbye = 2 * time.Second
)

// peerState is what the peering loop reached, for status.
type peerState struct {
	Plan     RoutePlan
	Sessions bgp.Report
	Paths    []bfd.Report
	Error    string
}

// peering keeps the peers told what this node answers for. One loop reads the world and
// gives the sessions their routes; the guard, which must never wait for that, has BFD and
// BGP know of each other.
type peering struct {
	log       *slog.Logger
	node      string
	memory    *memory
	passwords *passwords
	room      *bgp.Room
	paths     *bfd.Room
	gateways  func() ([]netip.Addr, error)
	rival     func(bgp.PeerReport) string
	members   func() ([]Member, bool)
	forwards  func() bool // whether forwarding has come round
	bell      chan struct{}
	pace      *pace  // for bells that can wait
	report    func() // called after every round
	cry       func(context.Context, transition)

	state atomic.Pointer[peerState]

	rivals   map[string]string // who else has a session with a peer, by key
	looked   time.Time         // when that was last looked for
	started  time.Time
	draining time.Time // since when this node is; zero if it is not
	planned  chan struct{}
	plan     atomic.Pointer[planned]

	// idle tells that the last round had nothing for routers and left nothing to do: until there is a BGPPeer or a
	// BGPAdvertisement, Services, of which many may change at once, do not matter here.
	idle bool

	handoff  handoff
	rings    *nft.Relays // nil where the kernel has no nftables: then nobody forwards by them either
	joined   map[netip.Addr]netip.Addr
	joinedAt time.Time
	ring     atomic.Int64 // of how many nodes the rings are at most; 0 without any
	ringed   func()       // called when that changes
}

// planned is what the loop last wished, for the guard.
type planned struct {
	plan   RoutePlan
	rivals map[string]string
	err    string
}

// run loops until ctx ends, then says goodbye.
func (p *peering) run(ctx context.Context) error {
	p.started = time.Now()
	p.openRings()
	held, err := p.handoff.take()
	if err != nil {
		p.log.Warn("begin BFD anew", "error", err)
	}
	p.paths.Resume(held)
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.guard(watching)
	}()
	stop := func() { cancel(); <-done }
	defer stop()
	slow := time.NewTicker(readAgain)
	defer slow.Stop()
	for {
		began := time.Now()
		err := p.round(ctx)
		p.rest(time.Since(began))
		if err != nil && ctx.Err() == nil && !errors.Is(err, errNoState) {
			p.log.Error("tell the peers", "error", err)
		}
		select {
		case <-ctx.Done():
			return p.leave(context.WithoutCancel(ctx), stop)
		case <-p.bell:
		case <-slow.C:
		case <-p.soon():
		}
	}
}

// rest paces the rounds by how long the last one took.
func (p *peering) rest(took time.Duration) {
	if last := p.plan.Load(); last != nil && len(last.plan.Wish.Peers) == 0 {
		p.pace.rests(noPeersTempo().rest(took))
		return
	}
	p.pace.worked(took)
}

// soon tells when to try again what has not come round yet; never, once it has.
func (p *peering) soon() <-chan time.Time {
	if p.plan.Load() != nil {
		return nil
	}
	return time.After(200 * time.Millisecond)
}

// round reads the world, decides, and makes it so.
func (p *peering) round(ctx context.Context) error {
	nothing := p.memory.withoutRouting(ctx) // asked before the world is read: what comes meanwhile rings
	if nothing && p.idle {
		return nil
	}
	_, heard := p.members()
	if (!heard || !p.forwards()) && time.Since(p.started) < firstWish {
		return nil
	}
	w, err := p.world(ctx)
	if err != nil {
		return err
	}
	plan := p.decide(w)
	err = p.apply(ctx, w, plan)
	p.idle = nothing && err == nil && plan.Next == 0 && len(p.joined) == 0
	return err
}

// decide says what to tell the peers, and blocks those whose passwords are not known.
func (p *peering) decide(w World) RoutePlan {
	plan := Routes(w)
	for i, peer := range plan.Wish.Peers {
		at := slices.IndexFunc(w.Config.Peers, func(c config.BGPPeer) bool { return c.Name == peer.Key })
		if at < 0 || w.Config.Peers[at].Secret == "" {
			continue
		}
		if why := p.passwords.missing(w.Config.Peers[at].Secret); why != "" {
			plan.Wish.Peers[i].Blocked = why
		}
	}
	return plan
}

func (p *peering) apply(ctx context.Context, w World, plan RoutePlan) error {
	p.join(ctx, w) // before routers lead anything here
	_, err := p.room.Apply(ctx, plan.Wish)
	p.lookForRivals(w.Now)
	next := planned{plan: plan, rivals: p.rivals}
	if err != nil {
		next.err = err.Error()
	}
	p.plan.Store(&next)
	ring(p.planned)
	if plan.Next > 0 {
		time.AfterFunc(plan.Next, func() { ring(p.bell) })
	}
	return err
}

// lookForRivals finds the sessions that cannot come up because another program has them. It reads
// all connections of the node, so it does so rarely.
func (p *peering) lookForRivals(now time.Time) {
	if now.Sub(p.looked) < rivalEvery {
		return
	}
	p.looked, p.rivals = now, map[string]string{}
	for _, session := range p.room.Report().Peers {
		if session.State != bgp.Connect || session.LastError == "" {
			continue
		}
		if why := p.rival(session); why != "" {
			p.rivals[session.Key] = why
		}
	}
}

// world reads what the routes depend on.
func (p *peering) world(ctx context.Context) (World, error) {
	s, err := p.memory.snapshot(ctx)
	if err != nil {
		return World{}, err
	}
	w := s.world(p.node)
	w.Now = time.Now()
	w.Members, _ = p.members()
	w.Secrets = p.passwords.of(ctx, secretsOf(w.Config.Peers))
	if slices.ContainsFunc(w.Config.Peers, func(c config.BGPPeer) bool { return c.FromGateway }) {
		if w.Gateways, err = p.gateways(); err != nil {
			return w, fmt.Errorf("find the default gateway: %w", err)
		}
	}
	p.drain(&w)
	return w, nil
}

// drain remembers since when this node is being drained. One that was so before the speaker
// started has had its time.
func (p *peering) drain(w *World) {
	here, _ := w.node(p.node)
	leaving := here.Leaving != ""
	switch {
	case !leaving:
		p.draining = time.Time{}
	case p.draining.IsZero() && p.plan.Load() == nil:
		p.draining = w.Now.Add(-longestDrain)
	case p.draining.IsZero():
		p.draining = w.Now
	}
	w.DrainingSince = p.draining
}

// longestDrain is the longest drain time that a BGPPeer may have.
const longestDrain = time.Hour

// leave ends the sessions: for good if this node goes away, else so that peers with graceful
// restart keep the routes until the next speaker is there.
func (p *peering) leave(ctx context.Context, stopGuard func()) error {
	w, err := p.world(ctx)
	if err != nil {
		return p.restart(ctx, stopGuard)
	}
	here, _ := w.node(p.node)
	why := here.Leaving
	plan := p.decide(w)
	wait := part(&plan, p.room.Report(), why != "")
	if wait > 0 {
		_, err = p.room.Apply(ctx, plan.Wish)
		pause(ctx, wait)
	}
	if why != "" {
		defer p.paths.Close()
		return errors.Join(err, p.room.Close(why))
	}
	return errors.Join(err, p.restart(ctx, stopGuard))
}

// restart leaves BFD to the next speaker, ends BGP without a word, and what of BFD cannot be left after the peers have had
// the time to notice: they drop the routes if BFD ends while BGP is up.
func (p *peering) restart(ctx context.Context, stopGuard func()) error {
	stopGuard()
	err := errors.Join(p.handoff.leave(ctx, p.paths, p.patience()), p.room.Leave())
	pause(ctx, noticeTime)
	p.paths.Close()
	return err
}

// patience is for how long peers with graceful restart wait for the next speaker.
func (p *peering) patience() time.Duration {
	var most time.Duration
	if last := p.plan.Load(); last != nil {
		for _, peer := range last.plan.Wish.Peers {
			most = max(most, peer.GracefulRestart)
		}
	}
	return most
}

// part makes the plan ask those peers to prefer other nodes that will forget our routes when we
// leave, and returns for how long: all if this node goes away, else those without graceful restart.
func part(plan *RoutePlan, sessions bgp.Report, going bool) time.Duration {
	limit := shortGoodbye
	if going {
		limit = goodbye
	}
	leaving := farewell(plan.Wish)
	var wait time.Duration
	for _, session := range sessions.Peers {
		if session.State != bgp.Established || session.Prefixes == 0 || session.GracefulRestart && !going {
			continue
		}
		plan.Wish.Routes[session.Key] = leaving.Routes[session.Key]
		wait = max(wait, min(plan.Drain[session.Key], limit))
	}
	return wait
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// secretsOf returns the names of the Secrets that peers need, sorted, each once.
func secretsOf(peers []config.BGPPeer) []string {
	var names []string
	for _, peer := range peers {
		if peer.Secret != "" {
			names = append(names, peer.Secret)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
