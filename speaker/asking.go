package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/links"
)

// asked is what the wire said.
type asked struct {
	about []l2.Announcement
	seen  []l2.Sighting
	err   error
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

// forget drops refusals of addresses that are no longer ours to take.
func (a *announcing) forget(verdicts []Verdict) {
	ours := map[netip.Addr]bool{}
	for _, v := range verdicts {
		ours[v.Address] = v.Owner == a.node
	}
	maps.DeleteFunc(a.no, func(address netip.Addr, _ refused) bool { return !ours[address] })
}
