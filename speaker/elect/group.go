package elect

import (
	"cmp"
	"hash/fnv"
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

// groupsOf unites claims that have an address in common, sorted by the smallest address.
// Ascending addresses make a later Service, which gets a higher address, the last to
// choose, so that it displaces nobody.
func groupsOf(claims []Claim) [][]Claim {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b Claim) int { return strings.Compare(a.Key, b.Key) })
	root := make([]int, len(claims))
	var find func(i int) int
	find = func(i int) int {
		if root[i] != i {
			root[i] = find(root[i])
		}
		return root[i]
	}
	first := map[netip.Addr]int{}
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
	byRoot := map[int][]Claim{}
	for i, c := range claims {
		byRoot[find(i)] = append(byRoot[find(i)], c)
	}
	out := make([][]Claim, 0, len(byRoot))
	for _, tied := range byRoot {
		out = append(out, tied)
	}
	slices.SortFunc(out, func(a, b []Claim) int {
		return cmp.Or(smallest(a).Compare(smallest(b)), strings.Compare(a[0].Key, b[0].Key))
	})
	return out
}

func smallest(claims []Claim) netip.Addr {
	all := addresses(claims)
	if len(all) == 0 {
		return netip.Addr{}
	}
	return all[0]
}

func addresses(claims []Claim) []netip.Addr {
	var all []netip.Addr
	for _, c := range claims {
		all = append(all, c.Addresses...)
	}
	return sortedUnique(all, netip.Addr.Compare)
}

func sortedUnique[T comparable](s []T, compare func(a, b T) int) []T {
	s = slices.Clone(s)
	slices.SortFunc(s, compare)
	return slices.Compact(s)
}

// common returns the candidates of all the claims, or of any of them if no node that is
// alive is a candidate of all: an address that serves some is better than none.
func common(claims []Claim) (shared []Candidate, mixed bool) {
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
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	_, _ = h.Write([]byte{'#'})
	_, _ = h.Write(addr.AsSlice())
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
