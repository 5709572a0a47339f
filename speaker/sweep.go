package main

import (
	"time"
)

// sweepTempo is how looking for connections that are older than their Service rests: each time costs the kernel some
// milliseconds, and those who wait send their first packet again after a second.
func sweepTempo() tempo { return tempo{19, 100 * time.Millisecond, 500 * time.Millisecond} }

// sweep forgets the unanswered connections to new Services, unless it has just done so: then the loop comes back.
func (f *forwarding) sweep() {
	if !f.table.Early() || time.Now().Before(f.swept) {
		return
	}
	began := time.Now()
	if _, err := f.table.Sweep(); err != nil {
		f.log.Warn("connections begun before their Service may hang", "error", err)
	}
	f.swept = time.Now().Add(sweepTempo().rest(time.Since(began)))
}

// toSweep tells when sweep has something to do; never, if it has not.
func (f *forwarding) toSweep() <-chan time.Time {
	if f.table == nil || !f.table.Early() {
		return nil
	}
	return time.After(time.Until(f.swept))
}
