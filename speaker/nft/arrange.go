package nft

import (
	"net/netip"
	"slices"
)

// past is what is known of a Service's place from before: from its last
// version, or from the kernel. It keeps numbers and slots where they are, so that
// only what differs changes. Either function may be nil.
type past struct {
	// target is the number of the target that a frontend led to (or short-circuited to).
	target func(k frontKey, short bool) (uint32, bool)
	// slots are what that target's slots led to.
	slots func(id uint32) []netip.AddrPort
	// own tells whether a number is this Service's already.
	own func(id uint32) bool
}

// pastOf is the past of a Service that is placed; nil has none.
func pastOf(p *placed) past {
	if p == nil {
		return past{}
	}
	index := make(map[frontKey]*Frontend, len(p.svc.Frontends))
	for i := range p.svc.Frontends {
		if f := &p.svc.Frontends[i]; index[f.key()] == nil {
			index[f.key()] = f
		}
	}
	place := func(id uint32) int {
		for i, n := range p.ids {
			if n == id && id != 0 {
				return i
			}
		}
		return None
	}
	return past{
		target: func(k frontKey, short bool) (uint32, bool) {
			f := index[k]
			if f == nil {
				return 0, false
			}
			t := f.Target
			if short {
				t = f.Short
			}
			if t < 0 || t >= len(p.ids) {
				return 0, false
			}
			return p.ids[t], p.ids[t] != 0
		},
		slots: func(id uint32) []netip.AddrPort {
			if i := place(id); i != None {
				return p.at[i]
			}
			return nil
		},
		own: func(id uint32) bool { return place(id) != None },
	}
}

// arrange gives each target of a Service a number and puts its endpoints into slots.
func (st *state) arrange(s Service, was past) *placed {
	p := &placed{svc: s, ids: make([]uint32, len(s.Targets)), at: make([][]netip.AddrPort, len(s.Targets))}
	if was.target != nil {
		st.adopt(p, was)
	}
	for i, t := range s.Targets {
		var have []netip.AddrPort
		if p.ids[i] != 0 && was.slots != nil {
			have = was.slots(p.ids[i])
		}
		if p.ids[i] == 0 {
			p.ids[i] = st.targets.any()
			st.full = st.full || p.ids[i] == 0
		}
		p.at[i] = slotsOf(t, have)
	}
	return p
}

// adopt gives targets the numbers that their frontends led to before.
func (st *state) adopt(p *placed, was past) {
	used := map[uint32]bool{}
	adopt := func(target int, k frontKey, short bool) {
		if target < 0 || target >= len(p.ids) || p.ids[target] != 0 {
			return
		}
		id, ok := was.target(k, short)
		if !ok || used[id] {
			return
		}
		if (was.own != nil && was.own(id)) || st.targets.take(id) {
			p.ids[target] = id
			used[id] = true
		}
	}
	for _, f := range p.svc.Frontends {
		adopt(f.Target, f.key(), false)
		if f.Kind == Local {
			adopt(f.Short, f.key(), true)
		}
	}
}

// giveBack frees the target numbers that a Service no longer has.
func (st *state) giveBack(old, now *placed) {
	if old == nil {
		return
	}
	kept := map[uint32]bool{}
	if now != nil {
		for _, id := range now.ids {
			kept[id] = true
		}
	}
	for _, id := range old.ids {
		if id != 0 && !kept[id] {
			st.targets.give(id)
		}
	}
}

// slotCount is how many slots a target has.
func slotCount(t Target) uint32 {
	if t.Pick == Hash {
		return ringSize(len(t.Endpoints))
	}
	return uint32(len(t.Endpoints))
}

// slotsOf puts a target's endpoints into slots. Endpoints that are there
// already stay, as far as the choice among them allows it.
func slotsOf(t Target, have []netip.AddrPort) []netip.AddrPort {
	if t.Pick == Hash {
		return ring(t.Endpoints)
	}
	if len(have) == 0 {
		return t.Endpoints
	}
	at := settle(have, t.Endpoints)
	if slices.Equal(at, t.Endpoints) {
		return t.Endpoints // most are in order, and need no memory of their own
	}
	return at
}

// settle orders want so that it differs from have in few places: what stays
// keeps its slot, new endpoints and then the last ones fill the holes.
func settle(have, want []netip.AddrPort) []netip.AddrPort {
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, e := range want {
		wanted[e] = true
	}
	out := make([]netip.AddrPort, 0, max(len(have), len(want)))
	var holes []int
	for i, e := range have {
		if !wanted[e] {
			holes = append(holes, i)
		}
		delete(wanted, e)
		out = append(out, e)
	}
	for _, e := range want {
		if !wanted[e] {
			continue
		}
		delete(wanted, e) // a duplicate in want counts once
		if len(holes) > 0 {
			out[holes[0]], holes = e, holes[1:]
			continue
		}
		out = append(out, e)
	}
	for len(holes) > 0 {
		last := len(out) - 1
		hole := holes[len(holes)-1]
		if hole == last {
			holes = holes[:len(holes)-1]
		} else {
			out[holes[0]], holes = out[last], holes[1:]
		}
		out = out[:last]
	}
	return out
}
