package bgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Room runs the sessions. Make it with New; its methods may be called from any goroutine.
type Room struct {
	life context.Context
	log  *slog.Logger
	bell chan struct{}

	applying sync.Mutex // one Apply at a time
	have     Wish
	spare    []*speaker // servers without a session, to be used again
	doors    map[door]*listener

	mu       sync.Mutex
	sessions map[string]*session
}

// New returns a room without sessions. When the context is done, sessions end without a
// word, like those of a process that dies; see Close and Leave for better ways.
func New(ctx context.Context, log *slog.Logger) *Room {
	return &Room{life: ctx, log: log, bell: make(chan struct{}, 1), doors: map[door]*listener{}, sessions: map[string]*session{}}
}

// Bell rings when a session came up, settled, went down or failed in a new way.
func (r *Room) Bell() <-chan struct{} { return r.bell }

func (r *Room) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// Apply makes the peers be told what want says, and reports. It is idempotent, waits for
// no peer, and touches a session only if its own settings changed. An error names the
// changes that could not be made; the next Apply tries them again. The wish must not be
// changed afterwards.
func (r *Room) Apply(ctx context.Context, want Wish) (Report, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	changes := Plan(r.have, want)
	errs := make([]error, len(changes))
	reached := newWish(want)
	var wg sync.WaitGroup
	for i, change := range changes {
		if change.Action == Keep || change.Action == Retune {
			wg.Go(func() { errs[i] = r.adjust(ctx, change, want.Routes[change.Key]) })
			continue
		}
		errs[i] = r.replace(change, want.Routes[change.Key])
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			words := cease(wire.BGP_ERROR_SUB_OUT_OF_RESOURCES, "the speaker could not keep the session")
			_, ending := r.end(changes[i].Key, words) // what it knows is unknown now
			err = errors.Join(err, ending)
			errs[i] = fmt.Errorf("%s session %s: %w", changes[i].Action, changes[i].Key, err)
			reached.forget(changes[i].Key)
		}
	}
	r.listen(want.Peers)
	r.have = reached
	return r.Report(), errors.Join(errs...)
}

// newWish is a copy that can forget.
func newWish(w Wish) Wish {
	c := Wish{Peers: slices.Clone(w.Peers), Routes: make(map[string][]Route, len(w.Routes))}
	for key, routes := range w.Routes {
		c.Routes[key] = routes
	}
	return c
}

// forget makes the next Plan open the session anew.
func (w *Wish) forget(key string) {
	w.Peers = slices.DeleteFunc(w.Peers, func(p Peer) bool { return p.Key == key })
	delete(w.Routes, key)
}

// adjust changes a running session.
func (r *Room) adjust(ctx context.Context, change Change, all []Route) error {
	s := r.session(change.Key)
	if change.Action == Retune {
		if err := s.retune(ctx, change.Peer); err != nil {
			return err
		}
	}
	return s.update(ctx, all, change.Announce, change.Withdraw)
}

// replace ends the session, if it runs, and starts it, if it is wished.
func (r *Room) replace(change Change, all []Route) error {
	words := cease(wire.BGP_ERROR_SUB_PEER_DECONFIGURED, "the peer was removed from the configuration")
	if change.Action != Close {
		words = cease(wire.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE, "the peer's settings changed")
	}
	last, err := r.end(change.Key, words)
	if change.Action == Close {
		return err
	}
	s, err := r.newSession(change.Peer, all, last)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[change.Key] = s
	return nil
}

func (r *Room) takeSpeaker() *speaker {
	if n := len(r.spare); n > 0 {
		sp := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return sp
	}
	return newSpeaker()
}

// end ends a session, if there is one, and returns what is closed when its last connection is; nil for nothing.
func (r *Room) end(key string, words *objection) (<-chan struct{}, error) {
	s := r.session(key)
	if s == nil {
		return nil, nil
	}
	r.mu.Lock()
	delete(r.sessions, key)
	r.mu.Unlock()
	if err := s.end(r.life, words); err != nil {
		return s.last, fmt.Errorf("stop its server: %w", err)
	}
	r.spare = append(r.spare, s.speaker)
	return s.last, nil
}

func (r *Room) session(key string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[key]
}

// Drop ends the session with Cease/BFD Down (RFC 9384) because the path is broken, at
// once and without waiting for an Apply. The session is tried again; to keep it down,
// wish Peer.Blocked. It does nothing if there is no such session.
func (r *Room) Drop(key, why string) {
	if s := r.session(key); s != nil {
		s.drop(cease(subBFDDown, why))
	}
}

// Leave ends every session without a word: what a mere restart of the speaker wants.
// Peers with graceful restart keep our routes until we are back or the time is over;
// the others drop them. The room can be used again.
func (r *Room) Leave() error { return r.endAll(nil) }

// Close ends every session with Cease/Administrative Shutdown and the given words for
// the peers' logs: what a node that goes away wants. The room can be used again.
func (r *Room) Close(words string) error {
	return r.endAll(cease(wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, words))
}

func (r *Room) endAll(words *objection) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	var errs []error
	r.listen(nil)
	for _, p := range r.have.Peers {
		_, err := r.end(p.Key, words)
		errs = append(errs, err)
	}
	r.have = Wish{}
	return errors.Join(errs...)
}

// Report returns the sessions as they are now, sorted by key.
func (r *Room) Report() Report {
	r.mu.Lock()
	sessions := make([]*session, 0, len(r.sessions))
	for _, s := range r.sessions {
		sessions = append(sessions, s)
	}
	r.mu.Unlock()
	report := Report{}
	for _, s := range sessions {
		report.Peers = append(report.Peers, s.look())
	}
	slices.SortFunc(report.Peers, func(a, b PeerReport) int { return cmp.Compare(a.Key, b.Key) })
	return report
}
