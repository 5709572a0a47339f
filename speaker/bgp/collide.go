package bgp

import (
	"context"
	"net"
	"net/netip"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// offer hands the session a connection that the peer has opened, and tells whether it takes it.
func (s *session) offer(conn *net.TCPConn) bool {
	select {
	case s.offers <- conn:
		s.rouse()
		return true
	default: // there is one already
		return false
	}
}

// keep is offer for a connection that was taken already.
func (s *session) keep(conn *net.TCPConn) {
	if !s.offer(conn) {
		_ = conn.Close()
	}
}

// reach returns a connection to the peer, and whether the peer opened it: whichever side was first.
func (s *session) reach(ctx context.Context, p Peer) (*net.TCPConn, bool, error) {
	select {
	case conn := <-s.offers:
		return conn, true, p.tune(conn)
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *net.TCPConn
		err  error
	}
	dialed := make(chan result, 1)
	go func() {
		conn, err := s.dial(ctx, p)
		dialed <- result{conn, err}
	}()
	select {
	case r := <-dialed:
		return r.conn, false, r.err
	case conn := <-s.offers:
		cancel()
		if r := <-dialed; r.err == nil {
			_ = r.conn.Close()
		}
		return conn, true, p.tune(conn)
	}
}

// referee judges, while a connection lives, the connections that the peer opens meanwhile (RFC 4271 §6.8): of two, the one
// counts that the side with the higher router ID opened. So it waits for the peer's OPEN. One that is established stays.
func (s *session) referee(c *connection, theirs bool, stop <-chan struct{}) {
	for {
		var second *net.TCPConn
		select {
		case <-stop:
			return
		case second = <-s.offers:
		}
		if !c.knows(stop) {
			s.keep(second) // the next attempt takes it
			return
		}
		if !theirs && c.yields() {
			s.keep(second)
			c.leave(cease(wire.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION, "the peer opened a connection, too, and its router ID is higher"))
			return
		}
		refusal := &connection{peer: second}
		refusal.tell(cease(wire.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION, "there is another connection"))
		_ = second.Close()
	}
}

// knows waits until the peer's OPEN has come; false if stop came first.
func (c *connection) knows(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return false
	case <-c.introduced:
		return true
	}
}

// yields tells whether a connection of ours gives way to one of the peer's.
func (c *connection) yields() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != Established && higher(c.theirs.routerID, c.settings.RouterID, c.theirs.asn, c.settings.LocalASN)
}

// higher compares router IDs, and if they are alike AS numbers (RFC 6286 §2.3).
func higher(theirs, ours netip.Addr, theirASN, ourASN uint32) bool {
	if order := theirs.Compare(ours); order != 0 {
		return order > 0
	}
	return theirASN > ourASN
}
