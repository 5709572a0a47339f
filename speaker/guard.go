package main

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// guarded tells which peers' sessions run over a path.
type guarded map[pathKey][]string

type pathKey struct{ peer, local netip.Addr }

// working returns the peers whose paths BFD watches and finds working.
func (g guarded) working(paths []bfd.Report) []string {
	var keys []string
	for _, path := range paths {
		if path.State == bfd.Up {
			keys = append(keys, g[pathKey{path.Session.Peer, path.Session.Local}]...)
		}
	}
	return keys
}

// guard ends the sessions whose paths break, watches the paths of those that have settled,
// and says what happened, until ctx ends.
func (p *peering) guard(ctx context.Context) {
	var before []bgp.PeerReport
	watched, breaks := guarded{}, map[pathKey]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.room.Bell():
		case <-p.paths.Bell():
		case <-p.planned:
		}
		p.dropBroken(watched, breaks)
		last := p.plan.Load()
		if last == nil {
			continue
		}
		state := peerState{Plan: last.plan, Sessions: p.room.Report(), Error: last.err}
		var want []bfd.Session
		want, watched = pathsToWatch(last.plan, state.Sessions, time.Now())
		state.Paths = p.paths.Apply(want)
		for _, key := range watched.working(state.Paths) {
			p.room.PathUp(key)
		}
		for i, session := range state.Sessions.Peers {
			if who := last.rivals[session.Key]; who != "" && session.State == bgp.Connect {
				state.Sessions.Peers[i].Reason = who
			}
		}
		p.state.Store(&state)
		for _, t := range transitions(before, state.Sessions.Peers) {
			p.cry(ctx, t)
		}
		before = state.Sessions.Peers
		p.report()
	}
}

// dropBroken ends the sessions whose paths do not work, or did not since the last look: breaks keeps how often each broke.
func (p *peering) dropBroken(watched guarded, breaks map[pathKey]uint64) {
	for _, path := range p.paths.Report() {
		at := pathKey{path.Session.Peer, path.Session.Local}
		broke := path.Breaks > breaks[at]
		breaks[at] = path.Breaks
		for _, key := range watched[at] {
			if path.Broken() || broke {
				p.room.Drop(key, "BFD: "+cmp.Or(path.LastDown, path.Why))
			}
		}
	}
}

// pathsToWatch says which paths BFD shall watch: those of sessions that have settled, each once.
func pathsToWatch(plan RoutePlan, sessions bgp.Report, now time.Time) ([]bfd.Session, guarded) {
	by := guarded{}
	var want []bfd.Session
	for _, session := range sessions.Peers {
		how, watched := plan.Watch[session.Key]
		if !watched || !session.Settled(now) {
			continue
		}
		key := pathKey{session.Address, session.Local}
		if by[key] = append(by[key], session.Key); len(by[key]) > 1 {
			continue
		}
		want = append(want, bfd.Session{
			Peer: session.Address, Local: session.Local, Interface: device(plan, session.Key),
			Multihop: how.Multihop, Profile: how.Profile,
		})
	}
	return want, by
}

// device is the interface that a peer's session is bound to; "" for none.
func device(plan RoutePlan, key string) string {
	i := slices.IndexFunc(plan.Wish.Peers, func(p bgp.Peer) bool { return p.Key == key })
	if i < 0 {
		return ""
	}
	if peer := plan.Wish.Peers[i]; peer.Interface != "" {
		return peer.Interface
	}
	return plan.Wish.Peers[i].VRF
}

// transition is a session that came up or went down.
type transition struct {
	Peer    string
	Up      bool
	Message string
}

// transitions returns what happened between two reports, by peer, also to a session that is
// up in both but was down between them.
func transitions(before, now []bgp.PeerReport) []transition {
	was := map[string]bgp.PeerReport{}
	for _, session := range before {
		was[session.Key] = session
	}
	var found []transition
	for _, session := range now {
		old := was[session.Key]
		again := session.Established != old.Established
		up, wasUp := session.State == bgp.Established, old.State == bgp.Established
		if down(old, session) || wasUp && (!up || again) {
			found = append(found, transition{session.Key, false, why(session)})
		}
		if up && (!wasUp || again) {
			found = append(found, transition{session.Key, true, ""})
		}
	}
	return found
}

// down tells whether a session that was not up before has a new reason not to be.
func down(old, now bgp.PeerReport) bool {
	if old.State == bgp.Established || now.State == bgp.Established {
		return false
	}
	return now.State == bgp.Blocked && (old.State != bgp.Blocked || old.Reason != now.Reason) ||
		old.LastError == "" && now.LastError != ""
}

// why is what a session that is down has to say.
func why(session bgp.PeerReport) string {
	if session.State == bgp.Blocked || session.LastError == "" {
		return session.Reason
	}
	return session.LastError
}
