package main

import (
	"context"
	"sync/atomic"
	"time"
)

// tempo is how long a loop rests after a round: some times as long as the round took, so that the many Services of a storm
// are a few rounds and take a small part of a core, but no less and no more than so long.
type tempo struct {
	times       int
	least, most time.Duration
}

// announceTempo is how the announcements rest between bells that can wait. Links, gossip and the wire are in a hurry.
func announceTempo() tempo { return tempo{39, 100 * time.Millisecond, 5 * time.Second} }

// peersTempo is how the routes rest between bells that can wait. A Service that is new rings twice, for itself and for its
// address: who rests long after the first is late with the second.
func peersTempo() tempo { return tempo{9, 5 * time.Millisecond, 200 * time.Millisecond} }

// noPeersTempo is how they rest where there is no peer to tell.
func noPeersTempo() tempo { return tempo{39, 50 * time.Millisecond, time.Second} }

// forwardTempo is how forwarding rests: it takes no more than a quarter of a core.
func forwardTempo() tempo { return tempo{3, 0, 200 * time.Millisecond} }

// statusTempo is how writes of the Speaker object rest, which cost the API server more than us.
func statusTempo() tempo { return tempo{9, statusEvery, 2 * time.Second} }

// rest returns how long to wait after a round that took some time.
func (t tempo) rest(took time.Duration) time.Duration {
	return min(max(time.Duration(t.times)*took, t.least), t.most)
}

// pace passes rings on to a loop, but not before the loop has rested. A first ring after a quiet time passes at once.
// Whatever cannot wait rings the loop itself.
type pace struct {
	bell  chan struct{} // to ring
	to    chan<- struct{}
	tempo tempo
	next  atomic.Pointer[time.Time] // when the loop has rested
}

func newPace(to chan<- struct{}, t tempo) *pace {
	return &pace{bell: make(chan struct{}, 1), to: to, tempo: t}
}

// worked tells that a round of the loop has just ended.
func (p *pace) worked(took time.Duration) { p.rests(p.tempo.rest(took)) }

// rests tells for how long the loop rests from now on.
func (p *pace) rests(long time.Duration) {
	next := time.Now().Add(long)
	p.next.Store(&next)
}

// rested tells whether the loop has rested since its last round.
func (p *pace) rested() bool {
	next := p.next.Load()
	return next == nil || !time.Now().Before(*next)
}

// run passes rings on until ctx ends.
func (p *pace) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.bell:
		}
		if next := p.next.Load(); next != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Until(*next)):
			}
		}
		select {
		case <-p.bell: // what rang meanwhile is in the same round
		default:
		}
		ring(p.to)
	}
}
