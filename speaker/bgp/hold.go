package bgp

import (
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A route that a peer has before BFD watches the path leads traffic to a node whose death only the hold time would tell,
// for as long as BFD takes to begin. So where Peer.PathWait says so, UPDATEs wait, with the End-of-RIB marker among them: a
// peer with graceful restart keeps the old routes meanwhile.

// PathUp says that the path of the peer's session is watched and works: routes that waited for that are sent. It
// waits for nobody, and does nothing if there is no such session.
func (r *Room) PathUp(key string) {
	if s := r.session(key); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn != nil {
			s.conn.vouch()
		}
	}
}

// vouch ends the waiting; again does nothing.
func (c *connection) vouch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.vouched:
	default:
		close(c.vouched)
	}
}

// holding tells whether UPDATEs wait. The lock is held.
func (c *connection) holding() bool { return c.settings.PathWait > 0 && !c.released }

// keepBack takes an UPDATE that has to wait.
func (c *connection) keepBack(m message) bool {
	if m.kind() != wire.BGP_MSG_UPDATE {
		return false
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holding() {
		return false
	}
	c.waiting = append(c.waiting, m...)
	return true
}

// releaseInTime sends what waits once somebody vouches for the path, or the session has been up for PathWait.
func (c *connection) releaseInTime() {
	timer := time.NewTimer(c.settings.PathWait)
	defer timer.Stop()
	select {
	case <-c.vouched:
	case <-timer.C:
	case <-c.gone:
		return
	}
	if err := c.release(); err != nil {
		c.mu.Lock()
		if c.farewell == nil {
			c.farewell = &objection{why: err.Error()}
		}
		c.mu.Unlock()
		c.halt() // a message may have been cut
	}
	c.ring()
}

// release sends what waits, in order, before anything that comes later.
func (c *connection) release() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	c.released = true
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	return c.send(waiting)
}

// DefaultPathWait is enough for BFD: it begins a second after the session came up, and the first packets of both ends are
// a second apart (RFC 5880 §6.8.3).
const DefaultPathWait = 5 * time.Second
