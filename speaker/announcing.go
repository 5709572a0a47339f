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
	report    func()                // called after every round
	cry       func(context.Context, news)

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

// asked is what the wire said.
type asked struct {
	about []l2.Announcement
	seen  []l2.Sighting
	err   error
}

// run loops until ctx ends, then hands the addresses over and says goodbye.
func (a *announcing) run(ctx context.Context) error {
	a.started = time.Now()
	a.passed = a.openRelays(a.started)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		began := time.Now()
		err := a.round(ctx)
		a.pace.worked(time.Since(began))
		if err != nil && ctx.Err() == nil && !errors.Is(err, errNoState) {
			a.log.Error("announce", "error", err)
		}
		select {
		case <-ctx.Done():
			return a.leave(context.WithoutCancel(ctx))
		case <-a.bell:
		case <-tick.C:
		}
	}
}

// round reads the world, decides, and makes it so.
func (a *announcing) round(ctx context.Context) error {
	all, err := links.Snapshot()
	if err != nil {
		return fmt.Errorf("read the links: %w", err)
	}
	w, found, err := a.world(ctx)
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
	a.pass(ctx, relays(a.passed, todo.Hold, a.announced, verdicts, w)) // before the packets come here
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

// challenged tells whether another host was heard using an address that is ours
// since the last time: who hears it must hear us, too.
func (a *announcing) challenged(verdicts []Verdict) bool {
	ours := map[netip.Addr]bool{}
	for _, v := range verdicts {
		ours[v.Address] = v.Owner == a.node
	}
	last := a.heard
	for _, state := range a.responder.Report().States {
		if ours[state.Address] && state.Foreign.At.After(a.heard.Add(time.Second)) && state.Foreign.At.After(last) {
			last = state.Foreign.At
		}
	}
	challenged := last.After(a.heard)
	a.heard = last
	return challenged
}

// hear takes what the wire said since the last round.
func (a *announcing) hear(ctx context.Context, verdicts []Verdict, w World, now time.Time) {
	for {
		var heard asked
		select {
		case heard = <-a.answers:
		default:
			return
		}
		for _, wish := range heard.about {
			delete(a.asking, wish.Address)
			i := slices.IndexFunc(verdicts, func(v Verdict) bool { return v.Address == wish.Address })
			if i < 0 || verdicts[i].Owner != w.Node {
				continue
			}
			a.hearOne(ctx, wish, verdicts[i], heard, w, now)
		}
	}
}

func (a *announcing) hearOne(ctx context.Context, wish l2.Announcement, v Verdict, heard asked, w World, now time.Time) {
	if heard.err != nil {
		a.log.Warn("ask the wire", "address", wish.Address, "error", heard.err)
		return
	}
	no := answer(v, heard.seen, w, now)
	if no == nil {
		delete(a.no, v.Address)
		a.held[v.Address] = hold{wish, v}
		return
	}
	if a.no[v.Address].Reason != no.Reason {
		a.log.Warn("address not taken", "address", v.Address, "reason", no.Reason, "message", no.Message)
		a.moves.Refused++
		a.cryRefused(ctx, *no)
	}
	a.no[v.Address] = *no
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

// cryContested tells of the hosts that have begun to use addresses of ours.
func (a *announcing) cryContested(ctx context.Context, now []refused) {
	told := map[netip.Addr]string{}
	for _, no := range now {
		told[no.Verdict.Address] = no.Message
		if a.contested[no.Verdict.Address] != no.Message {
			a.log.Warn("address contested", "address", no.Verdict.Address, "message", no.Message)
			a.cryRefused(ctx, no)
		}
	}
	a.contested = told
}

// cryRefused tells the Services of an address what is the matter with it.
func (a *announcing) cryRefused(ctx context.Context, no refused) {
	for _, service := range no.Verdict.Services {
		a.cry(ctx, news{service, no.Reason, a.node + ": " + no.Message})
	}
}

// openRelays reads what an earlier speaker on this node passed on.
func (a *announcing) openRelays(now time.Time) map[netip.Addr]relay {
	found := map[netip.Addr]relay{}
	opened, err := nft.OpenRelays()
	var have map[netip.Addr]netip.Addr
	if err == nil {
		a.relays = opened
		have, err = a.relays.Read()
	}
	if err != nil {
		a.log.Warn("open connections of addresses that move here may be lost", "error", err)
	}
	for address, to := range have {
		found[address] = relay{to, now}
	}
	return found
}

// pass makes the kernel pass on what it should. An address is taken all the same if that fails.
func (a *announcing) pass(ctx context.Context, next map[netip.Addr]relay) {
	if a.relays == nil || len(next) == 0 && len(a.passed) == 0 {
		return
	}
	want := map[netip.Addr]netip.Addr{}
	for address, r := range next {
		want[address] = r.To
		if a.passed[address].To != r.To {
			a.log.Info("open connections live on through the node that had the address", "address", address, "node", r.To)
		}
	}
	if err := a.relays.Apply(ctx, want); err != nil {
		a.log.Warn("open connections of addresses that move here may be lost", "error", err)
	}
	a.passed = next
}

// ask asks the wire, in the background, about what it is not being asked already.
func (a *announcing) ask(ctx context.Context, todo steps, all []links.Link) {
	var about []l2.Announcement
	for _, wish := range todo.Ask {
		if !a.asking[wish.Address] {
			a.asking[wish.Address] = true
			about = append(about, wish)
		}
	}
	if len(about) == 0 {
		return
	}
	go func() {
		seen, err := a.asker.Probe(ctx, about, all, todo.Wait)
		select {
		case a.answers <- asked{about, seen, err}:
			ring(a.bell)
		case <-ctx.Done():
		}
	}()
}

// forget drops refusals of addresses that are no longer ours to take.
func (a *announcing) forget(verdicts []Verdict) {
	ours := map[netip.Addr]bool{}
	for _, v := range verdicts {
		ours[v.Address] = v.Owner == a.node
	}
	maps.DeleteFunc(a.no, func(address netip.Addr, _ refused) bool { return !ours[address] })
}

// tell lets the other speakers know this node's links and addresses.
func (a *announcing) tell(all []links.Link) error {
	meta, err := newMeta(all, a.owned()).encode()
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

// leave says goodbye, goes on answering until the others have taken over, and stops.
func (a *announcing) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handoverTime)
	defer cancel()
	var want []l2.Announcement
	until := time.Now().Add(handoverTime)
	for _, h := range a.held {
		h.Announcement.Until = until
		want = append(want, h.Announcement)
	}
	all, err := links.Snapshot()
	if err == nil {
		_, err = a.responder.Apply(ctx, want, all)
	}
	if err != nil {
		a.log.Error("hand the addresses over", "error", err)
	}
	if err := a.gossip.Leave(ctx); err != nil {
		a.log.Error("leave the other speakers", "error", err)
	}
	a.waitHanded(ctx, len(want))
	a.log.Info("addresses handed over", "count", len(want))
	err = a.responder.Close()
	if a.relays != nil {
		err = errors.Join(err, a.relays.Close())
	}
	return err
}

// waitHanded waits until every address was heard from a successor or ctx ends.
func (a *announcing) waitHanded(ctx context.Context, count int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for count > 0 {
		waiting := false
		for _, state := range a.responder.Report().States {
			waiting = waiting || (!state.Handed && state.Problem == "")
		}
		if !waiting {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
