// Package elect decides which node answers for an address. It is a pure function of
// what the nodes know in common, so that every node comes to the same answer without
// asking the others: no clock, no randomness, no state, no I/O.
//
// The rule: a group of addresses has a home, the node that rendezvous hashing gives it
// among the best preferred candidates, whether they are alive or not, with no node home
// to more than ceil(1.25 × average) addresses (one group may overhang by all but one of
// its addresses). The home owns the group while it is fit.
// While it is not, the group stays where it is, or goes to another fit node under the
// same bound. So a node that fails moves its own addresses and nobody else's, and its
// return (or not: Claim.Keep) moves those back and nobody else's.
//
// Out of scope: what makes a node a candidate, who is alive, what time it is (the caller
// turns "failback after ten minutes" into Keep).
package elect

import (
	"net/netip"
	"slices"
	"strings"
)

// Standing says how fit a candidate is right now.
type Standing int

const (
	// Fit nodes own addresses.
	Fit Standing = iota
	// Reluctant nodes (cordoned, draining, not ready) own an address only if no candidate is fit.
	Reluctant
	// Absent nodes (dead, left, link down) own nothing, but keep their place in the
	// distribution, so that their absence does not move the addresses of others.
	Absent
)

// Candidate is a node that may own the addresses of a claim.
type Candidate struct {
	Node       string
	Preference int // larger is better; lasting wishes only (weights), see Standing for what passes
	Standing   Standing
}

// Claim asks for an owner of addresses that stay together.
type Claim struct {
	Key        string       // names the claim, unique; "namespace/name" of a Service
	Addresses  []netip.Addr // claims that have an address in common get the same owner for all theirs
	Candidates []Candidate  // in any order; a node given twice counts once, the worse of each
	Present    string       // who owns it now, as all nodes know it; "" for nobody or unknown
	Keep       bool         // stay with Present while it is fit (failback never, or its time has not come)
}

// Verdict is the answer to a claim.
type Verdict struct {
	Key       string
	Addresses []netip.Addr // sorted, without doubles
	Owner     string       // "" if no candidate is alive
	RunnerUp  string       // who would own it if Owner went absent next; "" for nobody
	Home      string       // whose it is when all candidates are fit; "" without candidates
	Reason    string       // why, one sentence for people, without a full stop
}

// Owners gives each claim its verdict, sorted by Key. The order of claims, addresses and
// candidates does not matter. Feeding the owners back as Present changes no owner.
//
// A bound can be kept only where there is a choice: a group whose candidates are all full
// goes to the one that has least.
func Owners(claims []Claim) []Verdict {
	b := newBoard(claims)
	b.giveHomes()
	b.settle()
	owners := b.owners()
	runners := b.runnersUp(owners)
	var out []Verdict
	for i, g := range b.groups {
		for _, c := range g.claims {
			out = append(out, Verdict{
				Key:       c.Key,
				Addresses: sortedUnique(c.Addresses, netip.Addr.Compare),
				Owner:     b.name(owners[i]),
				RunnerUp:  b.name(runners[i]),
				Home:      b.name(g.home),
				Reason:    b.reason(g),
			})
		}
	}
	slices.SortFunc(out, func(a, b Verdict) int { return strings.Compare(a.Key, b.Key) })
	return out
}
