package bfd

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Room runs the sessions. Make it with New; its methods may be called from any goroutine.
type Room struct {
	life context.Context
	log  *slog.Logger
	bell chan struct{}

	applying sync.Mutex // one Apply at a time
	mu       sync.RWMutex
	paths    map[key]*path
	byLocal  map[uint32]*path
	ears     map[earKey]*ear
	held     map[key]Held // sessions of another process to go on with
}

// key is what makes two Sessions the same one.
type key struct {
	peer, local netip.Addr
	iface       string
	multihop    bool
}

func (s Session) key() key { return key{s.Peer, s.Local, s.Interface, s.Multihop} }

// New returns a room without sessions. It opens no socket before it has to. The context is
// the one sockets are opened with.
func New(ctx context.Context, log *slog.Logger) *Room {
	return &Room{
		life: ctx, log: log, bell: make(chan struct{}, 1),
		paths: map[key]*path{}, byLocal: map[uint32]*path{}, ears: map[earKey]*ear{}, held: map[key]Held{},
	}
}

// Bell rings when a session entered or left Up.
func (r *Room) Bell() <-chan struct{} { return r.bell }

func (r *Room) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// Apply makes the sessions be those of want, each at most once, and reports. It is
// idempotent; a running session is left alone unless its own settings changed, and a
// changed profile is negotiated without leaving Up. A session that goes tells its peer
// AdminDown. What cannot be set up is a Problem in the report and tried again by the
// next Apply.
func (r *Room) Apply(want []Session) []Report {
	r.applying.Lock()
	defer r.applying.Unlock()
	wanted := make(map[key]Session, len(want))
	for _, s := range want {
		wanted[s.key()] = s
	}
	for k, p := range r.snapshot() {
		if _, stays := wanted[k]; !stays {
			r.forget(k, p)
		}
	}
	for k, s := range wanted {
		r.keep(k, s)
	}
	if len(wanted) == 0 {
		r.closeEars()
	}
	return r.Report()
}

// Close ends every session; their peers are told AdminDown.
func (r *Room) Close() { r.Apply(nil) }

// Report returns the sessions as they are now, sorted by peer, then local address.
func (r *Room) Report() []Report {
	var reports []Report
	for _, p := range r.snapshot() {
		reports = append(reports, p.report())
	}
	slices.SortFunc(reports, func(a, b Report) int {
		return cmp.Or(a.Session.Peer.Compare(b.Session.Peer), a.Session.Local.Compare(b.Session.Local),
			cmp.Compare(a.Session.Interface, b.Session.Interface))
	})
	return reports
}

func (r *Room) snapshot() map[key]*path {
	r.mu.RLock()
	defer r.mu.RUnlock()
	paths := make(map[key]*path, len(r.paths))
	for k, p := range r.paths {
		paths[k] = p
	}
	return paths
}

// keep starts the session if it is new or could not be started, and hands a running one
// its settings.
func (r *Room) keep(k key, s Session) {
	r.mu.RLock()
	p := r.paths[k]
	r.mu.RUnlock()
	if p != nil {
		if p.configure(s) {
			return
		}
		r.forget(k, p)
	}
	p = r.start(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths[k] = p
	if p.problem == "" {
		r.byLocal[p.local] = p
		p.begin()
	}
}

func (r *Room) start(s Session) *path {
	p := &path{room: r, key: s.key(), session: s, loops: s.loops(), since: time.Now(), problem: s.Profile.Problem()}
	if p.problem != "" {
		return p
	}
	ear, err := r.listen(s)
	if err != nil {
		p.problem = err.Error()
		return p
	}
	p.ear = ear
	if held, ok := r.resumable(p.key); ok {
		if p.out, err = dial(s, held.Port); err == nil {
			p.local = held.Discriminator
			p.openEcho()
			p.machine = Resumed(p.local, p.profile(), held.Remote, p.since)
			return p
		}
	}
	if p.out, err = dial(s, 0); err != nil {
		p.problem = err.Error()
		return p
	}
	p.local = r.discriminator()
	p.openEcho()
	p.machine = NewMachine(p.local, p.profile(), p.since)
	return p
}

// discriminator returns one that no session of ours has. It is random, so that a
// restarted speaker is not taken for the one before.
func (r *Room) discriminator() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for {
		d := uint32(random())
		if _, taken := r.byLocal[d]; d != 0 && !taken {
			return d
		}
	}
}

func (r *Room) forget(k key, p *path) {
	r.mu.Lock()
	delete(r.paths, k)
	delete(r.byLocal, p.local)
	r.mu.Unlock()
	p.end()
}

// deliver gives a packet to its session (RFC 5880 §6.8.6): the one with the
// discriminator, or by address while the peer does not know ours yet.
func (r *Room) deliver(in incoming) {
	packet, err := Unmarshal(in.bytes)
	p := r.find(in, packet.YourDiscriminator)
	if p == nil {
		return
	}
	if err != nil {
		p.refuse(err.Error())
		return
	}
	if least := p.leastTTL(); in.ttl < int(least) {
		p.refuse(fmt.Sprintf("packet with TTL %d, want at least %d", in.ttl, least))
		return
	}
	p.step(Event{Now: in.arrival, Received: true, Packet: packet})
}

func (r *Room) find(in incoming, discriminator uint32) *path {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p := r.byLocal[discriminator]; p != nil && p.key.matches(in) {
		return p
	}
	if discriminator != 0 {
		return nil
	}
	for _, p := range r.byLocal {
		if p.key.matches(in) {
			return p
		}
	}
	return nil
}

// matches says whether a packet from there, on that port, may belong to the session.
func (k key) matches(in incoming) bool {
	if k.multihop != in.multihop || k.peer.WithZone("") != in.from {
		return false
	}
	if k.local.IsValid() && in.to.IsValid() && k.local.WithZone("") != in.to {
		return false
	}
	return k.peer.Zone() == "" || k.peer.Zone() == nameOf(in.index)
}
