package nft

import (
	"fmt"
	"slices"
	"strings"
)

// changes is a plan: all that leads from one state of the tables to another.
// Nothing in it is believed to be done before the kernel says so.
type changes struct {
	recreate []family // delete the table first, it is not ours as we know it
	create   []family // tables with their sets
	chains   []chainChange
	gone     []chainRef
	events   []event
	// settled tells that del and add are what the events amount to.
	settled  bool
	del, add []element
}

type chainRef struct {
	family family
	name   string
}

// chainChange adds a chain, or replaces the rules of one that exists.
type chainChange struct {
	family family
	chain  chain
	exists bool
}

// event is one step of an element. Several may follow each other, see net.
type event struct {
	element
	gone bool
}

func (c *changes) put(e element)  { c.events = append(c.events, event{e, false}) }
func (c *changes) drop(e element) { c.events = append(c.events, event{e, true}) }

// expect makes room for about as many events as it takes to add Services.
func (c *changes) expect(all map[string]Service) {
	n := 0
	for _, s := range all {
		for _, t := range s.Targets {
			n += int(slotCount(t))
		}
		n += len(s.Frontends) + len(s.Addresses) + len(s.Hairpin)
	}
	c.events = slices.Grow(c.events, n)
}

// onlyAdds is net for plans that are made from nothing, which are the large ones.
func (c *changes) onlyAdds() ([]element, bool) {
	for _, e := range c.events {
		if e.gone {
			return nil, false
		}
	}
	add := make([]element, 0, len(c.events))
	for _, e := range c.events {
		add = append(add, e.element)
	}
	return add, true
}

// net is what the events amount to: which elements to delete and which to add,
// in the order in which they first appear.
func (c *changes) net() (del, add []element) {
	if c.settled {
		return c.del, c.add
	}
	if add, is := c.onlyAdds(); is {
		return nil, add
	}
	type fate struct {
		before, after string
		was, is       bool
	}
	fates := make(map[slot]int, len(c.events))
	order := make([]slot, 0, len(c.events))
	all := make([]fate, 0, len(c.events))
	for _, e := range c.events {
		i, known := fates[e.slot]
		if !known {
			i = len(all)
			fates[e.slot] = i
			order = append(order, e.slot)
			all = append(all, fate{before: e.data, was: e.gone})
		}
		all[i].after, all[i].is = e.data, !e.gone
	}
	for i, s := range order {
		f := all[i]
		if f.was && f.is && f.before == f.after {
			continue
		}
		if f.was {
			del = append(del, element{s, f.before})
		}
		if f.is {
			add = append(add, element{s, f.after})
		}
	}
	return del, add
}

// inOrder splits the plan in three: what must be there before a packet is led to
// it, what leads packets, and what nothing leads to any more. A packet on its
// way through the rules sees a commit from one lookup to the next: if it found its token just
// before, then what the token stands for must still be there just after. The
// rules of a chain it sees as they were when it came: a chain that is newer than
// that is empty for it, and it would go on untranslated, with all of its
// connection. And the kernel shows new ranges only at the end of their commit,
// after the tokens that guard frontends with them; but it takes none that
// overlaps one it has, so a frontend's old ranges go with the new ones that overlap them.
func (c *changes) inOrder() []*changes {
	del, add := c.net()
	before, lead, after := &changes{settled: true}, &changes{settled: true}, &changes{settled: true}
	lead.recreate, lead.create, after.gone = c.recreate, c.create, c.gone
	if len(del) == 0 && c.makes(v4) && c.makes(v6) { // the largest plans: there is nothing to sort
		lead.chains, lead.add = c.chains, add
		return []*changes{before, lead, after}
	}
	for _, ch := range c.chains {
		if ch.exists || c.makes(ch.family) {
			lead.chains = append(lead.chains, ch)
		} else {
			before.chains = append(before.chains, ch)
		}
	}
	deleted := make(map[slot]bool, len(del))
	for _, e := range del {
		deleted[e.slot] = true
	}
	added := overlapping(del, add)
	for _, e := range add {
		if e.set.comesFirst() && !deleted[e.slot] && !added[e.slot] && !c.makes(e.family) {
			before.add = append(before.add, e)
		} else {
			lead.add = append(lead.add, e)
		}
		added[e.slot] = true
	}
	for _, e := range del {
		if e.set.isBehindToken() && !added[e.slot] {
			after.del = append(after.del, e)
		} else {
			lead.del = append(lead.del, e)
		}
	}
	return []*changes{before, lead, after}
}

// overlapping are the ranges that come and those that go that overlap each other.
func overlapping(del, add []element) map[slot]bool {
	out := make(map[slot]bool, len(add))
	going := map[slot][]slot{} // by frontend
	for _, e := range del {
		if e.set == allowedSources {
			f := e.guarded()
			going[f] = append(going[f], e.slot)
		}
	}
	if len(going) == 0 {
		return out
	}
	for _, e := range add {
		for _, old := range going[e.guarded()] {
			if old.overlaps(e.slot) {
				out[old], out[e.slot] = true, true
			}
		}
	}
	return out
}

// makes tells whether the plan makes a family's table: no packet is in it yet.
func (c *changes) makes(f family) bool {
	return slices.Contains(c.create, f) || slices.Contains(c.recreate, f)
}

// String is the plan for people and tests, one line per step.
func (c *changes) String() string {
	var out []string
	for _, f := range c.recreate {
		out = append(out, fmt.Sprintf("delete table %s", f))
	}
	for _, f := range c.create {
		out = append(out, fmt.Sprintf("add table %s", f))
	}
	for _, ch := range c.chains {
		verb := "add"
		if ch.exists {
			verb = "rewrite"
		}
		out = append(out, fmt.Sprintf("%s chain %s %s: %d rules", verb, ch.family, ch.chain.name, len(ch.chain.rules)))
	}
	del, add := c.net()
	for _, e := range del {
		out = append(out, "delete element "+e.String())
	}
	for _, e := range add {
		out = append(out, "add element "+e.String())
	}
	for _, r := range c.gone {
		out = append(out, fmt.Sprintf("delete chain %s %s", r.family, r.name))
	}
	return strings.Join(append(out, ""), "\n")
}

// sortedKeys keeps plans the same from run to run.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
