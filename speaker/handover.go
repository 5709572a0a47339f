package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/l2"
)

// Delays of taking and giving addresses.
const (
	// handoverTime is how long this node goes on answering for an address that
	// another one should take, unless it hears the other announce it.
	handoverTime = 3 * time.Second
	// takeoverWait is how long the wire is asked before taking an address from a
	// node that went silent, and firstWait before taking one that nobody had. On
	// a LAN an owner that is alive answers within a millisecond.
	takeoverWait = 100 * time.Millisecond
	firstWait    = 500 * time.Millisecond
	// askAgain is how long to wait before asking again for an address somebody else uses.
	askAgain = 5 * time.Second
)

// moves count what changed hands since the speaker started.
type moves struct {
	Taken, Given, Refused uint64
}

// hold is an address that this node answers for.
type hold struct {
	Announcement l2.Announcement
	Verdict      Verdict
}

// refused is an address that this node should announce but must not take.
type refused struct {
	Verdict         Verdict
	Reason, Message string
	Again           time.Time // when to ask the wire again
}

// steps is what follows from verdicts.
type steps struct {
	// Hold is what to answer for, sorted by address.
	Hold []hold
	// Ask is what to ask the wire about before it may be taken, sorted by
	// address, and Wait for how long.
	Ask  []l2.Announcement
	Wait time.Duration
}

// step says what a node does with verdicts, given what it holds and what it was refused.
// Round is how often this node has had to say everything again: see again.
func step(node string, verdicts []Verdict, w World, held map[netip.Addr]hold, no map[netip.Addr]refused, round uint64, now time.Time) steps {
	s := steps{Wait: firstWait}
	for _, verdict := range verdicts {
		have, holds := held[verdict.Address]
		if verdict.Owner != node {
			if handed, ok := handOver(have, verdict, w, now); holds && ok {
				s.Hold = append(s.Hold, handed)
			}
			continue
		}
		wish := l2.Announcement{Address: verdict.Address, Links: verdict.Links, Round: round}
		switch {
		case holds || free(verdict, w, node):
			s.Hold = append(s.Hold, hold{wish, verdict})
		case now.Before(no[verdict.Address].Again):
		default:
			s.Ask = append(s.Ask, wish)
			if verdict.Present != "" {
				s.Wait = takeoverWait
			}
		}
	}
	return s
}

// again tells whether this node must announce what it holds anew, although it
// never stopped: the network may have learned otherwise meanwhile. That is so
// when a speaker that was silent is heard again, for it may have been on the
// other side of a partition and taken our addresses there, and when a live
// speaker claims an address of ours, or stops doing so: whom it answered last must not go on sending there. It is
// quiet between two calls with the same worlds.
func again(before, now World, verdicts []Verdict) bool {
	for _, m := range now.Members {
		if m.Name == now.Node || m.Life != Alive {
			continue
		}
		was, known := before.member(m.Name)
		if known && was.Life == Dead {
			return true
		}
		for _, v := range verdicts {
			claimed := known && was.Meta.owns(v.Address)
			if v.Owner == now.Node && m.Meta.owns(v.Address) != claimed {
				return true
			}
		}
	}
	return false
}

// free tells whether an address can be taken without asking the wire: its
// holder is alive and hears us, or it said goodbye.
func free(v Verdict, w World, node string) bool {
	member, known := w.member(v.Present)
	return known && v.Present != node && member.Life != Dead
}

// handOver goes on answering for an address that a live node should take, until that one is heard.
func handOver(have hold, v Verdict, w World, now time.Time) (hold, bool) {
	next, known := w.member(v.Owner)
	if !known || next.Life != Alive {
		return hold{}, false
	}
	if have.Announcement.Until.IsZero() {
		have.Announcement.Until = now.Add(handoverTime)
	}
	return have, now.Before(have.Announcement.Until)
}

// answer says what to do about an address after the wire was asked: nil means take it.
func answer(v Verdict, seen []l2.Sighting, w World, now time.Time) *refused {
	i := slices.IndexFunc(seen, func(s l2.Sighting) bool { return s.Address == v.Address })
	if i < 0 {
		return nil
	}
	mac := seen[i].MAC.String()
	again := now.Add(askAgain)
	for _, m := range w.Members {
		if !m.Meta.hasMAC(mac) {
			continue
		}
		if m.Life != Dead {
			return nil // it hears us and gives way
		}
		return &refused{Verdict: v, Again: now.Add(time.Second), Reason: v1beta1.ReasonSplit, Message: fmt.Sprintf(
			"the speaker of %s went silent, but the node still answers for %s: it is alive and gossip does not reach it, so it keeps the address", m.Name, v.Address)}
	}
	if v.Conflict == v1beta1.ConflictAnnounce {
		return nil
	}
	return &refused{Verdict: v, Again: again, Reason: v1beta1.ReasonAddressConflict, Message: fmt.Sprintf(
		"another host with the MAC address %s answers for %s on %s: take the address from that host or out of the pool, or set conflictPolicy: Announce", mac, v.Address, seen[i].Link)}
}

// contestTime is for how long another host that was heard using an address of ours is told of.
const contestTime = time.Minute

// contested are the addresses that this node announces although another host, none of the
// speakers' nodes, was lately heard using them. The address stays: who had it first
// defends it (RFC 5227 section 2.4, and RFC 4862 section 5.4.4 for IPv6), and l2 has
// answered that host already.
func contested(states []l2.State, verdicts []Verdict, w World, now time.Time) []refused {
	byAddress := map[netip.Addr]Verdict{}
	for _, v := range verdicts {
		byAddress[v.Address] = v
	}
	var found []refused
	for _, state := range states {
		v, wanted := byAddress[state.Address]
		mac := state.Foreign.MAC.String()
		ours := slices.ContainsFunc(w.Members, func(m Member) bool { return m.Meta.hasMAC(mac) })
		if !wanted || v.Owner != w.Node || state.MAC == nil || ours || state.Foreign.At.IsZero() || now.Sub(state.Foreign.At) > contestTime {
			continue
		}
		found = append(found, refused{Verdict: v, Reason: v1beta1.ReasonAddressConflict, Message: fmt.Sprintf(
			"another host with the MAC address %s uses %s on %s, too: this node had it first and keeps announcing it; take the address from that host or out of the pool", mac, v.Address, state.Link)})
	}
	return found
}
