package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/links"
	"github.com/fairlead/fairlead/speaker/members"
	"github.com/fairlead/fairlead/speaker/nft"
)

// settleTime is how long a speaker that just started waits for gossip to find
// its peers before it takes anything.
const settleTime = 3 * time.Second

// announceState is what the announcing loop reached, for status.
type announceState struct {
	Held      []hold
	Nobody    []problem // what no node announces, with why this one cannot: sorted
	Refused   []refused
	Contested []refused // addresses that are announced although another host uses them, too
	Moves     moves
	Relays    int // addresses of which connections are passed on to another node
	States    []l2.State
	Wire      []l2.LinkCounters
	Members   []members.Member
	Links     []links.Link
	Error     string
}

// announcing keeps this node answering for the addresses that are its own.
type announcing struct {
	log       *slog.Logger
	node      string
	memory    *memory
	gossip    *members.Gossip
	port      uint16 // of gossip
	responder *l2.Responder
	asker     *l2.Responder // only asks the wire, so that asking never delays answering
	bell      chan struct{}
	pace      *pace                 // for bells that can wait
	relays    *nft.Relays           // nil where the kernel has no nftables: then nobody forwards by them either
	dead      func(map[string]bool) // told which nodes went silent
	know      func([]Member)        // told who is alive
	// uninformed tells whether the API server does not answer.
	uninformed func() bool
	report     func() // called after every round
	cry        func(context.Context, news)

	state atomic.Pointer[announceState]

	started time.Time
	peers   int
	held    map[netip.Addr]hold
	passed  map[netip.Addr]relay // what is passed on to other nodes
	// announced are the addresses this node answers for and means to keep.
	announced map[netip.Addr]bool
	contested map[netip.Addr]string // what was told of hosts that use addresses of ours
	moves     moves
	no        map[netip.Addr]refused
	asking    map[netip.Addr]bool
	answers   chan asked
	meta      []byte
	before    World     // of the round before
	last      decided   // in the round before
	rounds    uint64    // how often all was announced anew
	heard     time.Time // when another host was last heard using an address of ours
}

// run loops until ctx ends, then hands the addresses over and says goodbye.
func (a *announcing) run(ctx context.Context) error {
	a.started = time.Now()
	a.passed = a.openRelays(a.started)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for fresh := true; ; {
		began := time.Now()
		err := a.round(ctx, fresh)
		if fresh {
			a.pace.worked(time.Since(began))
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, errNoState) {
			a.log.Error("announce", "error", err)
		}
		select {
		case <-ctx.Done():
			return a.leave(context.WithoutCancel(ctx))
		case <-a.bell:
			fresh = true
		case <-tick.C:
			fresh = a.pace.rested()
		}
	}
}

// round reads the world, decides, and makes it so. One that is not fresh goes by what was last read of the cluster: in a storm of
// Services it would decide anew about all of them, before the loop has rested.
func (a *announcing) round(ctx context.Context, fresh bool) error {
	all, err := links.Snapshot()
	if err != nil {
		return fmt.Errorf("read the links: %w", err)
	}
	w, found, err := a.world(ctx, fresh)
	if err != nil {
		return err
	}
	if err := a.tell(all); err != nil {
		return err
	}
	if !a.settled(found) {
		return nil
	}
	a.know(w.Members)
	now := time.Now()
	verdicts := a.verdicts(w)
	a.hear(ctx, verdicts, w, now)
	if again(a.before, w, verdicts) || a.challenged(verdicts) {
		a.rounds++
	}
	a.before = w
	todo := step(w.Node, verdicts, w, a.held, a.no, a.rounds, now)
	heard := w.heardUsing(a.responder.Report().States)
	a.pass(ctx, relays(a.passed, todo.Hold, a.announced, heard, verdicts, w)) // before the packets come here
	reached, err := a.apply(ctx, todo, all)
	a.ask(ctx, todo, all)
	a.forget(verdicts)
	if err == nil {
		err = a.tell(all)
	}
	contests := contested(reached.States, verdicts, w, now)
	a.cryContested(ctx, contests)
	state := announceState{
		Held: todo.Hold, Nobody: a.last.nobody, Refused: slices.Collect(maps.Values(a.no)),
		Contested: contests, Moves: a.moves, Relays: len(a.passed),
		States: reached.States, Wire: reached.Links, Members: found, Links: all,
	}
	if err != nil {
		state.Error = err.Error()
	}
	a.state.Store(&state)
	a.report()
	return err
}

// apply answers for what is held, and tells what changed hands.
func (a *announcing) apply(ctx context.Context, todo steps, all []links.Link) (l2.Report, error) {
	var want []l2.Announcement
	next := map[netip.Addr]hold{}
	for _, h := range todo.Hold {
		want = append(want, h.Announcement)
		next[h.Announcement.Address] = h
	}
	reached, err := a.responder.Apply(ctx, want, all)
	a.handsChanged(todo.Hold)
	for _, state := range reached.States {
		if state.Handed {
			delete(next, state.Address)
		}
	}
	a.held = next
	return reached, err
}

// handsChanged logs and counts what this node announces now and did not before, and the other way round.
func (a *announcing) handsChanged(holds []hold) {
	now := map[netip.Addr]bool{}
	for _, h := range holds {
		if !h.Announcement.Until.IsZero() {
			continue
		}
		now[h.Announcement.Address] = true
		if !a.announced[h.Announcement.Address] {
			a.log.Info("address announced", "address", h.Announcement.Address, "links", h.Announcement.Links, "message", h.Verdict.Message)
			a.moves.Taken++
		}
	}
	for address := range a.announced {
		if !now[address] {
			a.log.Info("address withdrawn", "address", address)
			a.moves.Given++
		}
	}
	a.announced = now
}

// tell lets the other speakers know this node's links and addresses.
func (a *announcing) tell(all []links.Link) error {
	own := newMeta(all, a.owned())
	own.Uninformed = a.uninformed()
	meta, err := own.encode()
	if err != nil || bytes.Equal(meta, a.meta) {
		return err
	}
	if err := a.gossip.SetMeta(meta); err != nil {
		return fmt.Errorf("tell the other speakers about this node: %w", err)
	}
	a.meta = meta
	return nil
}

// owned returns the addresses this node answers for, sorted. Those it is handing over are
// among them until the next owner is heard: that one must know where they come from.
func (a *announcing) owned() []netip.Addr {
	return slices.SortedFunc(maps.Keys(a.held), netip.Addr.Compare)
}
