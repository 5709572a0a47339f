package bgp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// update changes what the peer shall know. Before the first connection the routes only
// wait: their next hops are not known yet.
func (s *session) update(ctx context.Context, announce []Route, withdraw []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range announce {
		s.routes[r.Prefix] = r
	}
	for _, prefix := range withdraw {
		delete(s.routes, prefix)
	}
	if s.hops == nil {
		return nil
	}
	var errs []error
	for _, prefix := range withdraw {
		errs = append(errs, s.retract(ctx, prefix))
	}
	for _, r := range announce {
		errs = append(errs, s.tell(ctx, r))
	}
	return errors.Join(errs...)
}

// settle brings gobgp's table in line with the routes for a session whose ends are these.
func (s *session) settle(ctx context.Context, local, remote netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Local = local
	if remote.IsValid() {
		s.report.Address = remote
	}
	s.hops = s.peer.nextHops(local)
	var errs []error
	for _, r := range s.routes {
		if told, is := s.told[r.Prefix]; !is || told != s.nextHop(r) {
			errs = append(errs, s.tell(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// nextHop of the route; invalid if there is none.
func (s *session) nextHop(r Route) netip.Addr {
	if r.NextHop.IsValid() {
		return r.NextHop
	}
	return s.hops[familyOf(r.Prefix)]
}

// tell gives the route to gobgp, or takes it back if it has no next hop.
func (s *session) tell(ctx context.Context, r Route) error {
	hop := s.nextHop(r)
	if !hop.IsValid() || !slices.Contains(s.peer.families(), familyOf(r.Prefix)) {
		return s.retract(ctx, r.Prefix)
	}
	if err := s.speaker.announce(ctx, s.peer, r, hop); err != nil {
		return err
	}
	s.told[r.Prefix] = hop
	return nil
}

func (s *session) retract(ctx context.Context, prefix netip.Prefix) error {
	if _, is := s.told[prefix]; !is {
		return nil
	}
	delete(s.told, prefix)
	return s.speaker.withdraw(ctx, prefix)
}

// look returns the session's report.
func (s *session) look() PeerReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	r.Updates, r.Ignored = s.counters.updates, s.counters.ignored
	if s.conn == nil {
		r.Local = netip.Addr{}
		return r
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	r.Updates += s.conn.updates
	r.Ignored += s.conn.ignored
	if s.conn.theirs.asn != 0 {
		r.ASN, r.RouterID = s.conn.theirs.asn, s.conn.theirs.routerID
	}
	if r.State == Established {
		s.negotiated(&r)
	}
	return r
}

// negotiated fills in what both OPENs agree on. The locks are held.
func (s *session) negotiated(r *PeerReport) {
	ours, theirs := s.conn.ours, s.conn.theirs
	for _, f := range ours.families {
		if slices.Contains(theirs.families, f) {
			r.Families = append(r.Families, f)
		}
	}
	slices.Sort(r.Families)
	r.HoldTime = min(ours.hold, theirs.hold)
	r.Keepalive = r.HoldTime / 3
	if wished := s.conn.settings.Keepalive; wished > 0 && wished < r.Keepalive {
		r.Keepalive = wished.Truncate(time.Second)
	}
	r.GracefulRestart = ours.restart && theirs.restart
	for prefix := range s.told {
		if slices.Contains(r.Families, familyOf(prefix)) {
			r.Prefixes++
		}
	}
	for prefix := range s.routes {
		if _, told := s.told[prefix]; told || r.Reason != "" {
			continue
		}
		f := familyOf(prefix)
		if slices.Contains(s.peer.families(), f) {
			r.Reason = s.hops.missing(f, r.Local)
		}
	}
}
