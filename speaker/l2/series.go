package l2

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// series is the gratuitous announcements of one address on one link, from the moment the
// node began to answer there.
type series struct {
	duty  *duty
	ear   *ear
	start time.Time
	next  int // which of Timing.Series comes next; beyond it, a refresh
	due   time.Time
}

// advance finds when the next announcement is due after one at now; false for never again.
func (s *series) advance(t Timing, now time.Time) bool {
	s.next++
	switch {
	case s.next < len(t.Series):
		s.due = s.start.Add(t.Series[s.next])
	case t.Refresh > 0:
		s.due = now.Add(t.Refresh)
	default:
		return false
	}
	return true
}

// begin starts the announcements of a pair anew, the first of them due at once.
func (r *Responder) begin(key pairKey, d *duty, e *ear, now time.Time) {
	s := &series{duty: d, ear: e, start: now, next: -1}
	if s.advance(r.Timing, now) {
		r.series[key] = s
	}
}

// announcer sends what is due until stop is closed.
func (r *Responder) announcer(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-r.wake:
		case <-timer.C:
		}
		if wait, more := r.announceDue(time.Now()); more {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// announceDue sends one batch of what is due, oldest first, and says how long to wait for
// the next. It holds the lock while it sends: an address that Apply has withdrawn is
// never announced afterwards.
func (r *Responder) announceDue(now time.Time) (wait time.Duration, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.pause) {
		return r.pause.Sub(now), true
	}
	due, next := r.due(now)
	for i, s := range due {
		if i == r.Timing.Batch {
			r.pause = now.Add(r.Timing.BatchTime)
			return r.Timing.BatchTime, true
		}
		s.ear.announce(s.duty)
		if !s.advance(r.Timing, now) {
			delete(r.series, s.duty.key())
			continue
		}
		if next.IsZero() || s.due.Before(next) {
			next = s.due
		}
	}
	r.endHandovers(now, &next)
	return max(0, next.Sub(now)), !next.IsZero()
}

// due lists the series that are due, sorted, and when the next of the others is.
func (r *Responder) due(now time.Time) (due []*series, next time.Time) {
	for _, s := range r.series {
		if !now.Before(s.due) {
			due = append(due, s)
		} else if next.IsZero() || s.due.Before(next) {
			next = s.due
		}
	}
	slices.SortFunc(due, func(a, b *series) int {
		return cmp.Or(a.due.Compare(b.due), a.duty.addr.Compare(b.duty.addr), strings.Compare(a.duty.link, b.duty.link))
	})
	return due, next
}

// endHandovers rings when the time of a handover has passed without a successor.
func (r *Responder) endHandovers(now time.Time, next *time.Time) {
	for _, d := range r.duties {
		until := d.until.Load()
		if until == nil || d.handed.Load() {
			continue
		}
		if d.over(now) {
			r.ring()
		} else if next.IsZero() || until.Before(*next) {
			*next = *until
		}
	}
}
