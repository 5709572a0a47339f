package nft

import "slices"

// class is the number of a class, which is made, with all chains behind it, if
// it does not exist. It reports false if there are no numbers left.
func (st *state) class(f family, c class) (uint16, bool) {
	t := &st.tables[f]
	if n, exists := t.classes[c]; exists {
		return n, true
	}
	n := uint32(t.past[c])
	if !t.numbers.take(n) {
		n = t.unknown()
	}
	if n == 0 {
		st.full = true
		return 0, false
	}
	t.classes[c] = uint16(n)
	if !st.follow(f, c) {
		return 0, false
	}
	st.plan.put(element{slot{family: f, set: c.dispatcher(), key: rawToken(n)}, c.verdict()})
	return uint16(n), true
}

// unknown is a number that the kernel does not know either.
func (t *tableState) unknown() uint32 {
	known := make(map[uint32]bool, len(t.past))
	for _, n := range t.past {
		known[uint32(n)] = true
	}
	for range t.numbers.size {
		n := t.numbers.any()
		if n == 0 || !known[n] {
			return n
		}
		t.numbers.give(n)
	}
	return 0
}

// follow makes the chain of a class and those behind it.
func (st *state) follow(f family, c class) bool {
	if c.stage == dropping {
		return true
	}
	if _, exists := st.tables[f].chains[c.chain()]; exists {
		return true
	}
	if next, more := c.behind(); more && !st.follow(f, next) {
		return false
	}
	memory := uint16(0)
	if c.stage == plain && c.sticky != 0 {
		var ok bool
		if memory, ok = st.class(f, c.memory()); !ok {
			return false
		}
	}
	if c.stage == remembering {
		for _, m := range memoryChains() {
			st.setChain(f, m)
		}
	}
	if c.stage != rejecting || c.guarded {
		st.setChain(f, classChain(f, c, st.static, memory))
	}
	return true
}

// setChain makes or rewrites a chain unless it is as it should be.
func (st *state) setChain(f family, c chain) {
	prints := c.fingerprints(f)
	have, exists := st.tables[f].chains[c.name]
	if exists && slices.Equal(have, prints) {
		return
	}
	st.tables[f].chains[c.name] = prints
	st.plan.chains = append(st.plan.chains, chainChange{f, c, exists})
}

// rewrite makes the classes' chains anew after what is in them of Static changed.
func (st *state) rewrite(f family) {
	t := &st.tables[f]
	for _, name := range sortedKeys(t.chains) {
		if c, ok := parseClass(name); ok && (c.stage != rejecting || c.guarded) {
			st.setChain(f, classChain(f, c, st.static, t.classes[c.memory()]))
		}
	}
}
