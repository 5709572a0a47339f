package elect

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// none is the node that is no node.
const none = -1

// group is what gets one owner: the claims that are tied together by common addresses.
type group struct {
	claims     []Claim // sorted by Key
	addr       netip.Addr
	weight     int // how many addresses
	candidates []candidate
	mixed      bool // no node is a living candidate of all the claims
	present    int
	keep       bool

	able  []candidate // who may own it now: see pool
	best  []candidate // the best preferred of them
	home  int
	owner int
	how   how
}

// candidate is a Candidate with its node as a number and its score for the group.
type candidate struct {
	node       int
	preference int
	standing   Standing
	score      uint64
}

// bond is claims that get one owner.
type bond struct {
	claims []Claim      // sorted by Key
	addrs  []netip.Addr // of all of them, sorted, without doubles
}

// groupsOf unites claims that have an address in common, sorted by the smallest address.
// Ascending addresses make a later Service, which gets a higher address, the last to
// choose, so that it displaces nobody.
func groupsOf(claims []Claim) []bond {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b Claim) int { return strings.Compare(a.Key, b.Key) })
	byRoot := make([][]Claim, len(claims))
	for i, root := range roots(claims) {
		if byRoot[root] == nil && root == i {
			byRoot[root] = claims[i : i+1 : i+1] // most are alone
			continue
		}
		byRoot[root] = append(byRoot[root], claims[i])
	}
	out := make([]bond, 0, len(claims))
	for _, group := range byRoot {
		if group != nil {
			out = append(out, bond{group, addresses(group)})
		}
	}
	slices.SortFunc(out, func(a, b bond) int {
		return cmp.Or(smallest(a.addrs).Compare(smallest(b.addrs)), strings.Compare(a.claims[0].Key, b.claims[0].Key))
	})
	return out
}

// roots returns for each claim the number of one that stands for all that are tied to it.
func roots(claims []Claim) []int {
	root := make([]int, len(claims))
	var find func(i int) int
	find = func(i int) int {
		if root[i] != i {
			root[i] = find(root[i])
		}
		return root[i]
	}
	first := make(map[netip.Addr]int, len(claims))
	for i, c := range claims {
		root[i] = i
		for _, a := range c.Addresses {
			if j, ok := first[a]; ok {
				root[find(i)] = find(j)
			} else {
				first[a] = i
			}
		}
	}
	for i := range claims {
		root[i] = find(i)
	}
	return root
}

func smallest(sorted []netip.Addr) netip.Addr {
	if len(sorted) == 0 {
		return netip.Addr{}
	}
	return sorted[0]
}

func addresses(claims []Claim) []netip.Addr {
	if len(claims) == 1 {
		return sortedUnique(claims[0].Addresses, netip.Addr.Compare)
	}
	var all []netip.Addr
	for _, c := range claims {
		all = append(all, c.Addresses...)
	}
	return sortedUnique(all, netip.Addr.Compare)
}

// sortedUnique returns s sorted and without doubles; s itself if it is so by being short.
func sortedUnique[T comparable](s []T, compare func(a, b T) int) []T {
	if len(s) < 2 {
		return s
	}
	s = slices.Clone(s)
	slices.SortFunc(s, compare)
	return slices.Compact(s)
}

// common returns the candidates of all the claims, or of any of them if no node that is
// alive is a candidate of all: an address that serves some is better than none.
func common(claims []Claim) (shared []Candidate, mixed bool) {
	if len(claims) == 1 && ascending(claims[0].Candidates) {
		return claims[0].Candidates, false
	}
	votes, union := map[string]int{}, map[string]Candidate{}
	for _, c := range claims {
		seen := map[string]bool{}
		for _, cand := range c.Candidates {
			if !seen[cand.Node] {
				seen[cand.Node] = true
				votes[cand.Node]++
			}
			union[cand.Node] = worse(union, cand)
		}
	}
	alive := false
	for _, cand := range union {
		if votes[cand.Node] == len(claims) {
			shared = append(shared, cand)
			alive = alive || cand.Standing != Absent
		}
	}
	if alive || len(claims) == 1 {
		return shared, false
	}
	shared = nil
	for _, cand := range union {
		shared = append(shared, cand)
	}
	return shared, true
}

// ascending tells whether candidates are sorted by node, each there once.
func ascending(candidates []Candidate) bool {
	for i := 1; i < len(candidates); i++ {
		if candidates[i-1].Node >= candidates[i].Node {
			return false
		}
	}
	return true
}

func worse(known map[string]Candidate, c Candidate) Candidate {
	k, ok := known[c.Node]
	if !ok {
		return c
	}
	return Candidate{Node: c.Node, Preference: min(k.Preference, c.Preference), Standing: max(k.Standing, c.Standing)}
}

// score is the rendezvous weight of a node for an address: the highest wins. FNV alone
// leaves the high bits of short, similar keys alike, so its value is stirred once more
// (the finalizer of MurmurHash3).
func score(node string, addr netip.Addr) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // of FNV-1a: hash/fnv would allocate thrice
	x := uint64(offset)
	for i := range len(node) {
		x = (x ^ uint64(node[i])) * prime
	}
	x = (x ^ '#') * prime
	bytes := addr.As16()
	from := 0
	if addr.Is4() {
		from = 12
	}
	for _, b := range bytes[from:] {
		x = (x ^ uint64(b)) * prime
	}
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
