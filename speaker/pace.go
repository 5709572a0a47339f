package main

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// announceRest, peersRest and forwardRest are how many times as long as a round took the next one waits for more
	// changes: the many Services of a storm are then a few rounds, and rounds never take more than a twentieth, a tenth or a
	// quarter of a core.
	announceRest, peersRest, forwardRest = 19, 9, 3
	// announceRestMost, peersRestMost and forwardRestMost bound that wait.
	announceRestMost, peersRestMost, forwardRestMost = 500 * time.Millisecond, 200 * time.Millisecond, 50 * time.Millisecond
	// statusRest is the same for writes of the Speaker object, which cost the API server more than us.
	statusRest, statusRestMost = 9, 2 * time.Second
)

// rest returns how long to wait after work that took some time.
func rest(took time.Duration, times int, most time.Duration) time.Duration {
	return min(time.Duration(times)*took, most)
}

// pace passes rings on to a loop, but not before the loop has rested. A first ring after a quiet time passes at once.
// Whatever cannot wait rings the loop itself.
type pace struct {
	bell  chan struct{} // to ring
	to    chan<- struct{}
	times int                       // how many times as long as a round took the loop rests
	most  time.Duration             // but no longer
	next  atomic.Pointer[time.Time] // when the loop has rested
}

func newPace(to chan<- struct{}, times int, most time.Duration) *pace {
	return &pace{bell: make(chan struct{}, 1), to: to, times: times, most: most}
}

// worked tells that a round of the loop has just ended.
func (p *pace) worked(took time.Duration) {
	next := time.Now().Add(rest(took, p.times, p.most))
	p.next.Store(&next)
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
