package main

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/speaker/members"
)

// decided is what was decided last, and from what: with thousands of addresses a round that decides again what it knows
// would cost a node more than all else a speaker does.
type decided struct {
	from     *Snapshot
	world    World // of from, without members
	found    []members.Member
	members  []Member // what found means
	verdicts []Verdict
	nobody   []problem
	any      bool // whether anything was decided yet
}

// world reads the cluster, if fresh, and the members, and tells who went silent.
func (a *announcing) world(ctx context.Context, fresh bool) (World, []members.Member, error) {
	s := a.last.from
	if fresh || s == nil {
		var err error
		if s, err = a.memory.snapshot(ctx); err != nil {
			return World{}, nil, err
		}
	}
	if s != a.last.from {
		a.last = decided{from: s, world: s.world(a.node), found: a.last.found, members: a.last.members}
	}
	a.setPeers(s) // also if they are the same: members that are none of them may have died meanwhile
	w := a.last.world
	found := a.gossip.Snapshot()
	if !slices.EqualFunc(found, a.last.found, sameMember) {
		a.last.found, a.last.members, a.last.any = found, readMembers(found), false
	}
	w.Members, w.Now = a.last.members, time.Now()
	silent := map[string]bool{}
	for _, m := range w.Members {
		if m.Life == Dead {
			silent[m.Name] = true
		}
	}
	a.dead(silent)
	return w, found, nil
}

// setPeers tells gossip where the other speakers are.
func (a *announcing) setPeers(s *Snapshot) {
	a.peers = len(s.Peers)
	var sockets []netip.AddrPort
	for _, peer := range s.Peers {
		sockets = append(sockets, netip.AddrPortFrom(peer, a.port))
	}
	a.gossip.SetPeers(sockets)
}

func sameMember(a, b members.Member) bool {
	return a.Name == b.Name && a.Address == b.Address && a.State == b.State && a.Since.Equal(b.Since) && bytes.Equal(a.Meta, b.Meta)
}

// verdicts decides, unless nothing has changed that decisions depend on. w is what world returned last.
func (a *announcing) verdicts(w World) []Verdict {
	if !a.last.any || w.timed() {
		a.last.verdicts, a.last.any = Decide(w), true
		a.last.nobody = nobodyProblems(a.last.verdicts)
	}
	return a.last.verdicts
}

// settled tells whether gossip has found its peers, and heard what they have, or had its time to: who takes a node for
// one without links takes its addresses.
func (a *announcing) settled(found []members.Member) bool {
	if time.Since(a.started) > settleTime {
		return true
	}
	alive := 0
	for _, m := range found {
		if m.State == members.Alive && m.Meta != nil {
			alive++
		}
	}
	return alive > a.peers
}
