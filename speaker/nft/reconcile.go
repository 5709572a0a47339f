package nft

// reconcile is the plan from what the kernel holds to what it shall hold. The
// state's own plan holds all of the latter, as it was made from nothing.
func reconcile(snap *snapshot, st *state) *changes {
	out := &changes{}
	for _, f := range families {
		t := snap.tables[f]
		if t.foreign || wrongHooks(t, st.plan.chains, f) {
			out.recreate = append(out.recreate, f)
			t = tableSnapshot{}
			snap.tables[f] = t
		}
		if !t.exists {
			out.create = append(out.create, f)
		}
	}
	reconcileChains(snap, st, out)
	reconcileElements(snap, st, out)
	return out
}

// wrongHooks tells whether a chain of ours hangs elsewhere than it should.
func wrongHooks(t tableSnapshot, want []chainChange, f family) bool {
	for _, c := range want {
		have, exists := t.chains[c.chain.name]
		if c.family != f || !exists {
			continue
		}
		var h hook
		if c.chain.hook != nil {
			h = *c.chain.hook
		}
		if have.hook != h {
			return true
		}
	}
	return false
}

func reconcileChains(snap *snapshot, st *state, out *changes) {
	for _, c := range latest(st.plan.chains) {
		have, exists := snap.tables[c.family].chains[c.chain.name]
		if exists && equalPrints(have.prints, st.tables[c.family].chains[c.chain.name]) {
			continue
		}
		out.chains = append(out.chains, chainChange{c.family, c.chain, exists})
	}
	for _, f := range families {
		for _, name := range sortedKeys(snap.tables[f].chains) {
			if _, wanted := st.tables[f].chains[name]; !wanted {
				out.gone = append(out.gone, chainRef{f, name})
			}
		}
	}
}

// latest keeps the last version of each chain.
func latest(all []chainChange) []chainChange {
	last := make(map[chainRef]int, len(all))
	for i, c := range all {
		last[chainRef{c.family, c.chain.name}] = i
	}
	var out []chainChange
	for i, c := range all {
		if last[chainRef{c.family, c.chain.name}] == i {
			out = append(out, c)
		}
	}
	return out
}

func equalPrints(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// reconcileElements consumes the snapshot's elements.
func reconcileElements(snap *snapshot, st *state, out *changes) {
	_, want := st.plan.net()
	st.elements = len(want)
	have := snap.elements
	out.settled = true
	if len(have) == 0 {
		out.add = want
		return
	}
	for _, e := range want {
		data, exists := have[e.slot]
		exists = exists && snap.tables[e.family].exists
		delete(have, e.slot)
		if exists && data == e.data {
			continue
		}
		if exists {
			out.del = append(out.del, element{e.slot, data})
		}
		out.add = append(out.add, e)
	}
	for at, data := range have {
		if snap.tables[at.family].exists {
			out.del = append(out.del, element{at, data})
		}
	}
}
