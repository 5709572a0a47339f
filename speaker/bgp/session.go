package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

const (
	shortestPause  = 250 * time.Millisecond
	defaultRetry   = 5 * time.Second
	stableLifetime = 10 * time.Second
)

// session keeps one peer told: it connects, again and again, and holds the routes the
// peer shall know. One goroutine runs it; the rest of the room hands it settings and
// routes under its lock.
type session struct {
	log     *slog.Logger
	ring    func()
	speaker *speaker
	cancel  context.CancelFunc
	done    chan struct{}
	offers  chan *net.TCPConn // connections that the peer opened
	wake    chan struct{}     // the settings changed, or the session shall end its pause
	last    <-chan struct{}   // closed when the connection before is; run's own

	mu       sync.Mutex
	peer     Peer
	routes   []Route  // the wish's own slice, which other peers may share
	hops     nextHops // of the routes in gobgp's table; nil before the first connection
	conn     *connection
	report   PeerReport
	lived    bool   // there was a connection since the process began
	deaf     string // why the peer cannot connect to us
	counters struct{ updates, ignored uint64 }
}

// newSession starts the server and the session's goroutine, which must know the routes before
// it connects: what it learns later comes after the End-of-RIB marker.
func (r *Room) newSession(p Peer, routes []Route, last <-chan struct{}) (*session, error) {
	sp := r.takeSpeaker()
	if err := sp.start(r.life, p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.life)
	s := &session{
		log: r.log.With("peer", p.Key), ring: r.ring, speaker: sp, cancel: cancel,
		done: make(chan struct{}), offers: make(chan *net.TCPConn, 1), wake: make(chan struct{}, 1), last: last, peer: p, routes: routes,
		report: PeerReport{Key: p.Key, Address: p.Address, ASN: p.PeerASN, State: Idle, Since: time.Now()},
	}
	go s.run(ctx)
	if !p.Address.IsValid() {
		go keepAdvertising(ctx, p.Interface)
	}
	return s, nil
}

// run connects until the session is ended.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	pause := shortestPause
	for ctx.Err() == nil {
		if why := s.blocked(); why != "" {
			s.enter(Blocked, why)
			s.wait(ctx, time.Hour)
			continue
		}
		start := time.Now()
		err := s.live(ctx)
		if ctx.Err() != nil {
			break
		}
		if len(s.offers) > 0 {
			continue // a connection of the peer takes the place of this one: that is no trouble to tell
		}
		s.ended(err)
		if time.Since(start) > stableLifetime {
			pause = shortestPause
		}
		s.wait(ctx, pause)
		pause = min(2*pause, s.retry())
	}
}

// live is one attempt, and the session if it succeeds; the error says what ended it.
func (s *session) live(ctx context.Context) error {
	p := s.settings()
	conn, theirs, err := s.reach(ctx, p)
	if err != nil {
		return err
	}
	return s.talk(ctx, p, conn, theirs)
}

// dial connects to the peer, whose address may have to be found first.
func (s *session) dial(ctx context.Context, p Peer) (*net.TCPConn, error) {
	address := p.Address
	if !address.IsValid() {
		s.enter(Idle, fmt.Sprintf("no router advertisement was heard on %s yet", p.Interface))
		found, err := discover(ctx, p.Interface)
		if err != nil {
			return nil, err
		}
		address = found
	}
	s.enter(Connect, fmt.Sprintf("connecting to %s", address))
	s.afterLast(ctx)
	return p.dial(ctx, address)
}

// afterLast waits until the connection before is closed at both ends, which takes a second at most.
func (s *session) afterLast(ctx context.Context) {
	if s.last == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-s.last:
	}
}

// talk runs the session on a connection. Routes go into gobgp's table before the peer
// does: the End-of-RIB marker must not overtake them.
func (s *session) talk(ctx context.Context, p Peer, conn *net.TCPConn, theirs bool) error {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if err := s.settle(ctx, local, remote); err != nil {
		_ = conn.Close()
		return err
	}
	gobgp, err := s.speaker.connect(ctx, p)
	if err != nil {
		_ = conn.Close()
		return errors.Join(err, s.speaker.disconnect(ctx))
	}
	c := &connection{settings: p, peer: conn, gobgp: gobgp, state: OpenSent, changed: s.changed, gone: make(chan struct{}),
		introduced: make(chan struct{}), vouched: make(chan struct{}), ring: s.ring}
	s.last = c.gone
	if !s.adopt(ctx, c) {
		c.halt()
	}
	err = p.suspect(s.refereed(c, theirs), c)
	s.orphan(c)
	return errors.Join(err, s.speaker.disconnect(ctx))
}

// refereed runs the connection against others that the peer may open.
func (s *session) refereed(c *connection, theirs bool) error {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.referee(c, theirs, stop)
	}()
	err := c.run()
	close(stop)
	<-done
	return err
}

// adopt makes the connection the session's own, unless the session is ending.
func (s *session) adopt(ctx context.Context, c *connection) bool {
	s.enter(OpenSent, "waiting for the peer's OPEN")
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	c.restarted, s.lived = !s.lived, true
	s.conn = c
	return true
}

func (s *session) orphan(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	s.counters.updates += c.updates
	s.counters.ignored += c.ignored
}

// changed is called by the connection.
func (s *session) changed(to State) {
	why := map[State]string{OpenConfirm: "waiting for the peer's KEEPALIVE"}[to]
	s.enter(to, why)
}

func (s *session) enter(to State, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.report.State
	s.report.Reason = why
	if was == to {
		return
	}
	s.report.State, s.report.Since = to, time.Now()
	if to == Established {
		s.report.Established++
		s.log.Info("bgp session is up", "address", s.report.Address)
		time.AfterFunc(settling, s.ring)
	}
	if to == Established || was == Established || to == Blocked {
		s.ring()
	}
}

// ended keeps why an attempt or a session ended.
func (s *session) ended(err error) {
	s.mu.Lock()
	again := s.report.LastError == err.Error()
	was := s.report.State
	s.report.LastError, s.report.LastErrorAt = err.Error(), time.Now()
	s.mu.Unlock()
	if was == Established || !again {
		s.log.Warn("bgp session is down", "was", was, "why", err)
		s.ring()
	}
	s.enter(Connect, err.Error())
}

// wait pauses until the time is over or somebody wakes the session.
func (s *session) wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-timer.C:
	}
}

func (s *session) blocked() string { return s.settings().Blocked }
func (s *session) settings() Peer  { s.mu.Lock(); defer s.mu.Unlock(); return s.peer }
func (s *session) retry() time.Duration {
	if retry := s.settings().ConnectRetry; retry > 0 {
		return retry
	}
	return defaultRetry
}

// retune hands over settings that the running session can go on with.
func (s *session) retune(ctx context.Context, p Peer) error {
	s.mu.Lock()
	old := s.peer
	s.peer = p
	s.mu.Unlock()
	if p.Blocked != "" && old.Blocked == "" {
		s.drop(cease(wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, p.Blocked))
	}
	if p.Blocked != old.Blocked {
		s.rouse()
	}
	if slices.Equal(p.NextHops, old.NextHops) || s.local() == (netip.Addr{}) {
		return nil
	}
	return s.settle(ctx, s.local(), netip.Addr{})
}

// notListening keeps why the peer cannot connect to us; empty if it can, or need not.
func (s *session) notListening(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = why
}

func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) local() netip.Addr { s.mu.Lock(); defer s.mu.Unlock(); return s.report.Local }

// drop ends the running connection, if there is one, with these words or none.
func (s *session) drop(words *objection) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		conn.leave(words)
	}
}

// end ends the session for good, with these words or none. The server is free then; the connection may still
// be waiting for the peer to close it, too.
func (s *session) end(ctx context.Context, words *objection) error {
	s.cancel()
	s.drop(words)
	<-s.done
	select {
	case late := <-s.offers:
		_ = late.Close()
	default:
	}
	return s.speaker.stop(ctx)
}
