package members

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// book is what this node knows about all members, itself included. It is told by
// memberlist's goroutines and read by the caller's.
type book struct {
	mu      sync.Mutex
	self    string
	members map[string]entry
	records map[string]record // the newest of each; a record may come before its member
}

// entry is a member without its meta.
type entry struct {
	address netip.AddrPort
	state   State
	since   time.Time
	listed  bool // memberlist believes it is alive, which its own word may contradict
}

func newBook(self record, address netip.AddrPort, now time.Time) *book {
	return &book{
		self:    self.name,
		members: map[string]entry{self.name: {address, Alive, now, true}},
		records: map[string]record{self.name: self},
	}
}

func (b *book) snapshot() []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Member
	for name, e := range b.members {
		m := Member{Name: name, Address: e.address, State: e.state, Since: e.since}
		if r, ok := b.records[name]; ok && len(r.meta) > 0 {
			m.Meta = slices.Clone(r.meta)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// joined notes a living member. A member that left before says by a record of its new
// life that it is back, which may still be under way.
func (b *book) joined(name string, address netip.AddrPort, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.records[name]; ok && r.leaving {
		r.leaving = false
		b.records[name] = r
	}
	b.members[name] = entry{address, Alive, now, true}
}

// gone notes a member that is not alive any more: it left if it has said so, else it died.
func (b *book) gone(name string, now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.members[name]
	if !ok {
		return Dead
	}
	e.listed = false
	if e.state == Alive {
		e.state, e.since = Dead, now
		if b.records[name].leaving {
			e.state = Left
		}
	}
	b.members[name] = e
	return e.state
}

// learn takes records from others and says whether they changed what snapshot shows, and
// whether this node has to speak up because others believe a younger life of it.
func (b *book) learn(records []record, now time.Time) (changed, refute bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range records {
		have, known := b.records[r.name]
		if !r.newer(have) || !known && len(b.records) >= maxRecords {
			continue
		}
		if r.name == b.self {
			// Our clock has gone back since our last life: start above it.
			have.epoch, refute = r.epoch+1, true
			b.records[b.self] = have
			continue
		}
		changed = true
		if r.leaving && known {
			r.meta = have.meta
		}
		b.records[r.name] = r
		b.believe(r, now)
	}
	return changed, refute
}

// believe takes a member's word for whether it is here, before memberlist knows: that it
// leaves, and that it is back before memberlist has noticed that it was gone.
func (b *book) believe(r record, now time.Time) {
	e, member := b.members[r.name]
	switch {
	case member && r.leaving && e.state == Alive:
		e.state, e.since = Left, now
	case member && !r.leaving && e.state == Left && e.listed:
		e.state, e.since = Alive, now
	default:
		return
	}
	b.members[r.name] = e
}

// say replaces what this node says, and returns the record to spread.
func (b *book) say(change func(*record)) record {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.records[b.self]
	r.seq++
	change(&r)
	b.records[b.self] = r
	return r
}

func (b *book) own() record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records[b.self]
}

// all are the records of all members for a new one, sorted by name.
func (b *book) all() []record {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []record
	for _, name := range slices.Sorted(maps.Keys(b.records)) {
		if _, member := b.members[name]; member {
			out = append(out, b.records[name])
		}
	}
	return out
}

// forget drops the members that are neither alive nor wanted, and says whether there were any.
func (b *book) forget(wanted map[netip.AddrPort]bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.members)
	maps.DeleteFunc(b.members, func(_ string, e entry) bool { return e.state != Alive && !wanted[e.address] })
	maps.DeleteFunc(b.records, func(name string, _ record) bool { _, member := b.members[name]; return !member })
	return len(b.members) != before
}

// alive are the addresses of the living members but this one, by name.
func (b *book) alive() map[string]netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]netip.AddrPort{}
	for name, e := range b.members {
		if e.state == Alive && name != b.self {
			out[name] = e.address
		}
	}
	return out
}

// addresses are those of the living members, and of those gone since a moment.
func (b *book) addresses(since time.Time) (living, lost map[netip.AddrPort]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	living, lost = map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	for _, e := range b.members {
		if e.state == Alive {
			living[e.address] = true
		} else if e.since.After(since) {
			lost[e.address] = true
		}
	}
	return living, lost
}
