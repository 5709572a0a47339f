package elect

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// how says by which part of the rule a group came to its owner.
type how int

const (
	byNobody how = iota
	byHome
	byKeeping
	byStaying
	byPlacing
	byShedding
)

// board is the state of one decision.
type board struct {
	nodes  []string // sorted; a node's number is its index
	groups []group  // in the order in which they choose
	total  int      // addresses of all groups
	heavy  int      // addresses of the largest group
	load   []int    // addresses per node
	bound  int
}

func newBoard(claims []Claim) *board {
	b := &board{}
	number := map[string]int{}
	for _, c := range claims {
		for _, cand := range c.Candidates {
			if _, known := number[cand.Node]; !known {
				number[cand.Node] = len(b.nodes)
				b.nodes = append(b.nodes, cand.Node)
			}
		}
	}
	slices.Sort(b.nodes)
	for i, n := range b.nodes {
		number[n] = i
	}
	groups := groupsOf(claims)
	b.groups = make([]group, 0, len(groups))
	for _, tied := range groups {
		g := newGroup(tied, number)
		b.groups = append(b.groups, g)
		b.total += g.weight
		b.heavy = max(b.heavy, g.weight)
	}
	return b
}

func newGroup(t bond, number map[string]int) group {
	claims := t.claims
	g := group{claims: claims, addr: smallest(t.addrs), weight: len(t.addrs), present: none, home: none, owner: none}
	shared, mixed := common(claims)
	g.mixed = mixed
	g.candidates = make([]candidate, 0, len(shared))
	for _, c := range shared {
		g.candidates = append(g.candidates, candidate{number[c.Node], c.Preference, c.Standing, score(c.Node, g.addr)})
	}
	// The best score first; the name, which is the number, decides between equal scores.
	slices.SortFunc(g.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.node, b.node))
	})
	for _, c := range claims {
		if n, ok := number[c.Present]; ok && g.present == none {
			g.present = n
		}
		g.keep = g.keep || c.Keep
	}
	return g
}

// measure empties the loads and sets the bound for so many nodes.
func (b *board) measure(nodes int) {
	b.load = make([]int, len(b.nodes))
	b.bound = 0
	if nodes > 0 {
		b.bound = (5*b.total + 4*nodes - 1) / (4 * nodes)
	}
}

// giveHomes finds each group's home, as if every candidate were fit.
func (b *board) giveHomes() {
	b.measure(len(b.nodes))
	for i := range b.groups {
		g := &b.groups[i]
		if best := bestPreferred(g.candidates); len(best) > 0 {
			g.home = b.choose(best, g.weight)
			b.load[g.home] += g.weight
		}
	}
}

// settle finds each group's owner among those that are alive.
func (b *board) settle() {
	b.measure(b.count(Fit))
	var open []*group
	for i := range b.groups {
		g := &b.groups[i]
		g.able = g.pool()
		g.best = bestPreferred(g.able)
		g.owner, g.how = g.settled()
		if g.owner == none {
			open = append(open, g)
			continue
		}
		b.load[g.owner] += g.weight
	}
	for _, g := range open {
		if len(g.best) > 0 {
			g.owner, g.how = b.choose(g.best, g.weight), byPlacing
			b.load[g.owner] += g.weight
		}
	}
	for b.shed() {
	}
}

// settled is the owner that needs no choice, if there is one.
func (g *group) settled() (int, how) {
	switch {
	case g.keep && has(g.able, g.present):
		return g.present, byKeeping
	case has(g.able, g.home):
		return g.home, byHome
	case has(g.best, g.present):
		return g.present, byStaying
	}
	return none, byNobody
}

// shed moves one address group that only stayed where it was off a node that has come to
// hold too much, if another has room for it. Nothing that overhangs by the size of a group
// is worth a move.
func (b *board) shed() bool {
	for i := len(b.groups) - 1; i >= 0; i-- {
		g := &b.groups[i]
		if g.how != byStaying && g.how != byPlacing || b.load[g.owner] < b.bound+b.heavy {
			continue
		}
		for _, c := range g.best {
			if b.load[c.node]+g.weight <= b.bound {
				b.load[g.owner] -= g.weight
				b.load[c.node] += g.weight
				g.owner, g.how = c.node, byShedding
				return true
			}
		}
	}
	return false
}

// choose takes the candidate with the best score that has room, or else the one with the
// least load. The candidates are sorted by score.
func (b *board) choose(from []candidate, weight int) int {
	least := from[0].node
	for _, bound := range []int{b.bound, b.bound + b.heavy - 1} {
		for _, c := range from {
			if b.load[c.node]+weight <= bound {
				return c.node
			}
			if b.load[c.node] < b.load[least] {
				least = c.node
			}
		}
	}
	return least
}

// pool is who may own the group now: all that are fit, or else all that are reluctant.
func (g *group) pool() []candidate {
	for _, s := range []Standing{Fit, Reluctant} {
		if all := having(g.candidates, func(c candidate) bool { return c.standing == s }); len(all) > 0 {
			return all
		}
	}
	return nil
}

// having returns the candidates that are so, without a copy if all are.
func having(from []candidate, so func(candidate) bool) []candidate {
	if !slices.ContainsFunc(from, func(c candidate) bool { return !so(c) }) {
		return from
	}
	out := make([]candidate, 0, len(from))
	for _, c := range from {
		if so(c) {
			out = append(out, c)
		}
	}
	return out
}

// count counts the nodes that are so for at least one group.
func (b *board) count(s Standing) int {
	seen := map[int]bool{}
	for _, g := range b.groups {
		for _, c := range g.candidates {
			if c.standing == s {
				seen[c.node] = true
			}
		}
	}
	return len(seen)
}

func (b *board) owners() []int {
	out := make([]int, len(b.groups))
	for i, g := range b.groups {
		out[i] = g.owner
	}
	return out
}

// runnersUp decides again for each owner, as if that one were absent.
func (b *board) runnersUp(owners []int) []int {
	out := make([]int, len(b.groups))
	for i := range out {
		out[i] = none
	}
	for node := range b.nodes {
		if !slices.Contains(owners, node) {
			continue
		}
		after := b.without(node, owners)
		after.settle()
		for i, g := range after.groups {
			if owners[i] == node {
				out[i] = g.owner
			}
		}
	}
	return out
}

func (b *board) without(node int, owners []int) *board {
	after := *b
	after.groups = slices.Clone(b.groups)
	size := 0
	for _, g := range b.groups {
		size += len(g.candidates)
	}
	all := make([]candidate, 0, size) // one array for all: there are many
	for i := range after.groups {
		g := &after.groups[i]
		g.present = owners[i]
		from := len(all)
		all = append(all, g.candidates...)
		g.candidates = all[from:len(all):len(all)]
		for j := range g.candidates {
			if g.candidates[j].node == node {
				g.candidates[j].standing = Absent
			}
		}
	}
	return &after
}

func bestPreferred(from []candidate) []candidate {
	if len(from) == 0 {
		return nil
	}
	best := from[0].preference
	for _, c := range from {
		best = max(best, c.preference)
	}
	return having(from, func(c candidate) bool { return c.preference == best })
}

func has(in []candidate, node int) bool {
	return slices.ContainsFunc(in, func(c candidate) bool { return c.node == node })
}

func (b *board) name(node int) string {
	if node == none {
		return ""
	}
	return b.nodes[node]
}

func (g *group) standing(node int) Standing {
	for _, c := range g.candidates {
		if c.node == node {
			return c.standing
		}
	}
	return Absent
}

// reason says why the owner owns the group.
func (b *board) reason(g group) string {
	text := b.because(g)
	if g.owner != none && g.standing(g.owner) == Reluctant {
		text += ", reluctantly: no candidate is fit"
	}
	if len(g.claims) > 1 {
		var keys []string
		for _, c := range g.claims {
			keys = append(keys, c.Key)
		}
		text += "; " + strings.Join(keys, ", ") + " share an address and stay together"
	}
	if g.mixed && g.owner != none {
		text += ", though no node alive can serve all of them"
	}
	return text
}

func (b *board) because(g group) string {
	owner, home := b.name(g.owner), b.name(g.home)
	switch {
	case len(g.candidates) == 0:
		return "no node may announce it"
	case g.how == byHome:
		return owner + " is its home among " + strconv.Itoa(len(g.candidates)) + " candidates"
	}
	away := fmt.Sprintf("its home %s is %s", home, [...]string{"back", "reluctant", "absent"}[g.standing(g.home)])
	switch {
	case g.how == byKeeping && g.owner == g.home:
		return fmt.Sprintf("%s has it, and is its home", owner)
	case g.how == byKeeping:
		return fmt.Sprintf("%s has it and keeps it; %s", owner, away)
	case g.how == byStaying:
		return fmt.Sprintf("%s has it; %s", owner, away)
	case g.how == byPlacing:
		return fmt.Sprintf("%s stands in for it; %s", owner, away)
	case g.how == byShedding:
		return fmt.Sprintf("%s takes it from a node that has too many; %s", owner, away)
	}
	return fmt.Sprintf("none of its %d candidates is alive", len(g.candidates))
}
