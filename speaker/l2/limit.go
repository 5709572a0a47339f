package l2

import "time"

// limiter bounds the answers that one sender gets in a second. It belongs to one
// goroutine.
type limiter struct {
	answers int
	second  time.Time
	given   map[mac]int
}

// maxSenders bounds the memory. When more than so many speak up within a second, their
// addresses are surely invented, and counting them helps nobody: the rest is answered.
const maxSenders = 4096

func (l *limiter) allow(m mac, now time.Time) bool {
	if now.Sub(l.second) >= time.Second {
		l.second = now
		clear(l.given)
	}
	n, known := l.given[m]
	if !known && len(l.given) >= maxSenders {
		return true
	}
	l.given[m] = n + 1
	return n < l.answers
}
