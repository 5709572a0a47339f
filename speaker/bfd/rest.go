package bfd

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Held is a session whose peer has agreed to hear nothing for a while: what the next process needs to go on with it.
type Held struct {
	Peer, Local netip.Addr
	Interface   string
	Multihop    bool
	// Discriminator and Port are ours, Remote is what the peer's last packet said.
	Discriminator uint32
	Port          uint16
	Remote        Remote
	// Until is when the peer gives up, in time since the machine was booted.
	Until time.Duration
}

func (h Held) key() key { return key{h.Peer, h.Local, h.Interface, h.Multihop} }

// restTime bounds how long Rest waits for the peers.
const restTime = time.Second

// Rest ends every session without the peers noticing: each is asked to expect the next packet only after a third of the time, so that it
// does not miss us while another process takes our place, and answers at once (a poll sequence, RFC 5880 §6.5). A peer that does not agree is told
// AdminDown. It returns the sessions of those that do, sorted, for Resume. The room can be used again.
func (r *Room) Rest(ctx context.Context, silence time.Duration) []Held {
	r.applying.Lock()
	defer r.applying.Unlock()
	paths := r.snapshot()
	for _, p := range paths {
		p.slowDown(silence)
	}
	r.untilAgreed(ctx, paths)
	until := sinceBoot() + silence
	var held []Held
	for k, p := range paths {
		if h, ok := p.hold(until); ok {
			held = append(held, h)
		}
		r.forget(k, p)
	}
	r.closeEars()
	slices.SortFunc(held, func(a, b Held) int { return a.Peer.Compare(b.Peer) })
	return held
}

// untilAgreed waits until every peer has answered, which takes a round trip, or too long.
func (r *Room) untilAgreed(ctx context.Context, paths map[key]*path) {
	ctx, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, p := range paths {
		for p.asks() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// Resume makes the next Apply go on with sessions of another process instead of beginning anew, if their peers still wait.
func (r *Room) Resume(held []Held) {
	r.applying.Lock()
	defer r.applying.Unlock()
	for _, h := range held {
		r.held[h.key()] = h
	}
}

// resumable takes the session that another process held.
func (r *Room) resumable(k key) (Held, bool) {
	h, found := r.held[k]
	delete(r.held, k)
	left := h.Until - sinceBoot()
	return h, found && left > 0 && left <= longestInterval && r.byLocal[h.Discriminator] == nil
}

// sinceBoot is a clock that all processes share and nobody can set.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// slowDown tells the peer that packets will be rare.
func (p *path) slowDown(silence time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil || p.machine.State != Up {
		return
	}
	slower := p.profile()
	slower.Transmit = silence/time.Duration(slower.Multiplier) + time.Millisecond
	p.apply(Event{Now: time.Now(), Configured: true, Profile: slower})
}

// asks tells whether the peer has yet to agree.
func (p *path) asks() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timer != nil && p.machine.State == Up && p.machine.polling
}

// hold silences the session if the peer agreed.
func (p *path) hold(until time.Duration) (Held, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.machine
	if p.timer == nil || p.ended || m.State != Up || m.polling || m.Remote.State != Up {
		return Held{}, false
	}
	p.timer.Stop()
	p.ended = true
	p.closeEcho()
	held := Held{
		Peer: p.key.peer, Local: p.key.local, Interface: p.key.iface, Multihop: p.key.multihop,
		Discriminator: p.local, Port: portOf(p.out), Remote: m.Remote, Until: until,
	}
	return held, p.out.Close() == nil
}
