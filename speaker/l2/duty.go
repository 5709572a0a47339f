package l2

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// duty is one address on one link: what the listeners need to know and what they count.
// It lives from the first wish for the pair to the last, also while the link is away.
type duty struct {
	addr netip.Addr
	link string

	until   atomic.Pointer[time.Time] // end of a handover; nil for none
	handed  atomic.Bool
	foreign atomic.Pointer[Sighting]

	received, answered, limited, gratuitous, failed atomic.Uint64
}

// over says whether nothing must be answered any more, because a handover has ended.
func (d *duty) over(now time.Time) bool {
	if until := d.until.Load(); until != nil && !now.Before(*until) {
		d.handed.Store(true)
	}
	return d.handed.Load()
}

// wishUntil begins, changes or (with the zero time) ends a handover.
func (d *duty) wishUntil(until time.Time) {
	if until.IsZero() {
		d.until.Store(nil)
		d.handed.Store(false)
		return
	}
	d.until.Store(&until)
}

// saw notes another host and says whether that is news: once a second for the same one,
// so that a flood of claims does not become a flood of bells.
func (d *duty) saw(m mac, now time.Time) bool {
	old := d.foreign.Load()
	if old != nil && mac(old.MAC) == m && now.Sub(old.At) < time.Second {
		return false
	}
	d.foreign.Store(&Sighting{Address: d.addr, Link: d.link, MAC: m.hardware(), At: now})
	return true
}

func (d *duty) sighting() Sighting {
	if s := d.foreign.Load(); s != nil {
		return *s
	}
	return Sighting{}
}

func (d *duty) counters() Counters {
	return Counters{
		Received:   d.received.Load(),
		Answered:   d.answered.Load(),
		Limited:    d.limited.Load(),
		Gratuitous: d.gratuitous.Load(),
		Failed:     d.failed.Load(),
	}
}
