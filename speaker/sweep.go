package main

import (
	"time"
)

// sweepTempo is how looking for connections that are older than their Service rests: each time costs the kernel some
// milliseconds, and those who wait send their first packet again after a second, and then after two.
func sweepTempo() tempo { return tempo{99, 500 * time.Millisecond, 2 * time.Second} }

// answerTime is how long an endpoint that has gone may take to answer the last who was led to it. It is the kernel there that
// does, within a millisecond, if it is there at all.
const answerTime = 500 * time.Millisecond

// sweep forgets the unanswered connections to new Services and to endpoints that have gone, unless it has just done
// so: then the loop comes back.
func (f *forwarding) sweep() {
	if !f.mayLook() {
		return
	}
	began := time.Now()
	if f.table.Early() && !began.Before(f.swept) {
		if _, err := f.table.Sweep(); err != nil {
			f.log.Warn("connections begun before their Service may hang", "error", err)
		}
		f.swept = time.Now().Add(sweepTempo().rest(time.Since(began)))
	}
	if f.table.Strays() && !began.Before(f.forgot) {
		if _, err := f.table.ForgetStrays(); err != nil {
			f.log.Warn("connections to endpoints that have gone may hang", "error", err)
		}
		f.forgot = time.Now().Add(answerTime)
	}
}

// mayLook tells whether the kernel has what it should have. After a round that failed the next one has a wait of its own,
// and sweep must not ring for it earlier.
func (f *forwarding) mayLook() bool { return f.table != nil && f.wait == 0 }

// toSweep tells when sweep has something to do; never, if it has not.
func (f *forwarding) toSweep() <-chan time.Time {
	if !f.mayLook() {
		return nil
	}
	var next time.Time
	if f.table.Early() {
		next = f.swept
	}
	if f.table.Strays() && (next.IsZero() || f.forgot.Before(next)) {
		next = f.forgot
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}
