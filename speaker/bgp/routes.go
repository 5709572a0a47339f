package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// update changes what the peer shall know to all, which differs from what it was by the
// other two. Before the first connection the routes only wait: their next hops are not
// known yet.
func (s *session) update(ctx context.Context, all, announce []Route, withdraw []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = all
	if s.hops == nil {
		return nil
	}
	var errs []error
	for _, prefix := range withdraw {
		errs = append(errs, s.speaker.withdraw(ctx, prefix))
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
	old := s.hops
	s.hops = s.peer.nextHops(local)
	var errs []error
	for _, r := range s.routes {
		if old == nil || old.of(r) != s.hops.of(r) {
			errs = append(errs, s.tell(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// of returns the route's next hop; invalid if there is none.
func (h nextHops) of(r Route) netip.Addr {
	if r.NextHop.IsValid() {
		return r.NextHop
	}
	return h[familyOf(r.Prefix)]
}

// tell gives the route to gobgp, or takes it back if it has no next hop.
func (s *session) tell(ctx context.Context, r Route) error {
	hop := s.hops.of(r)
	if !hop.IsValid() {
		return s.speaker.withdraw(ctx, r.Prefix)
	}
	if !slices.Contains(s.peer.families(), familyOf(r.Prefix)) {
		return nil
	}
	return s.speaker.announce(ctx, s.peer, r, hop)
}

// look returns the session's report.
func (s *session) look() PeerReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	r.Updates, r.Ignored = s.counters.updates, s.counters.ignored
	r.Deaf = s.deaf
	if s.deaf != "" && r.State != Established {
		r.Reason = strings.TrimPrefix(r.Reason+"; "+s.deaf, "; ")
	}
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
	for _, route := range s.routes {
		f := familyOf(route.Prefix)
		switch {
		case !slices.Contains(r.Families, f):
		case s.hops.of(route).IsValid():
			r.Prefixes++
		default:
			r.Reason = fmt.Sprintf("no %s next hop: the interface of %s has no such address", f, r.Local)
		}
	}
	if s.conn.holding() {
		r.Waiting, r.Prefixes = true, 0
		r.Reason = fmt.Sprintf("routes wait until BFD watches the path, for %s at most", s.conn.settings.PathWait)
	}
}
