package elect

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{})

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// uniform draws claims that all nodes may own alike, some with an address of each family.
func uniform(t *rapid.T, pairs bool) []Claim {
	nodes := rapid.IntRange(1, 8).Draw(t, "nodes")
	var cands []Candidate
	for i := range nodes {
		cands = append(cands, Candidate{Node: nodeName(i)})
	}
	var claims []Claim
	for i, octet := range rapid.SliceOfNDistinct(rapid.Uint16(), 0, 60, rapid.ID).Draw(t, "addresses") {
		c := Claim{Key: fmt.Sprintf("ns/s%d", i), Candidates: slices.Clone(cands),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(octet >> 8), byte(octet)})}}
		if pairs && rapid.Bool().Draw(t, "pair") {
			c.Addresses = append(c.Addresses, netip.AddrFrom16([16]byte{0xfd, 14: byte(octet >> 8), 15: byte(octet)}))
		}
		claims = append(claims, c)
	}
	return claims
}

// wild draws anything: few addresses that collide, own candidates each, all standings.
func wild(t *rapid.T) []Claim {
	var claims []Claim
	for i := range rapid.IntRange(0, 12).Draw(t, "claims") {
		c := Claim{Key: fmt.Sprintf("ns/s%d", i), Keep: rapid.Bool().Draw(t, "keep")}
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			c.Addresses = append(c.Addresses, netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "octet") % 32}))
		}
		for range rapid.IntRange(0, 6).Draw(t, "candidates") {
			c.Candidates = append(c.Candidates, Candidate{
				Node:       nodeName(rapid.IntRange(0, 5).Draw(t, "node")),
				Preference: rapid.IntRange(0, 2).Draw(t, "preference"),
				Standing:   Standing(rapid.IntRange(0, 2).Draw(t, "standing")),
			})
		}
		if rapid.Bool().Draw(t, "owned") {
			c.Present = nodeName(rapid.IntRange(0, 7).Draw(t, "present"))
		}
		claims = append(claims, c)
	}
	return claims
}

func ownersOf(claims []Claim) map[string]string {
	out := map[string]string{}
	for _, v := range Owners(claims) {
		out[v.Key] = v.Owner
	}
	return out
}

// withPresent is the world after everybody has learned the owners.
func withPresent(claims []Claim, owners map[string]string) []Claim {
	out := slices.Clone(claims)
	for i := range out {
		out[i].Present = owners[out[i].Key]
	}
	return out
}

func withStanding(claims []Claim, node string, s Standing) []Claim {
	out := slices.Clone(claims)
	for i := range out {
		out[i].Candidates = slices.Clone(out[i].Candidates)
		for j := range out[i].Candidates {
			if out[i].Candidates[j].Node == node {
				out[i].Candidates[j].Standing = s
			}
		}
	}
	return out
}

func standingOf(claims []Claim, node string) Standing {
	for _, c := range claims[0].Candidates {
		if c.Node == node {
			return c.Standing
		}
	}
	return Absent
}

func addressesPerNode(claims []Claim, owners map[string]string) map[string]int {
	out := map[string]int{}
	for _, c := range claims {
		out[owners[c.Key]] += len(c.Addresses)
	}
	return out
}

func drawNode(t *rapid.T, claims []Claim, what string) string {
	var names []string
	for _, c := range claims[0].Candidates {
		names = append(names, c.Node)
	}
	return rapid.SampledFrom(names).Draw(t, what)
}

func TestOrderOfInputsIsImmaterial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := wild(t)
		want := Owners(claims)
		mixed := rapid.Permutation(claims).Draw(t, "claims mixed")
		for i := range mixed {
			mixed[i].Candidates = rapid.Permutation(mixed[i].Candidates).Draw(t, "candidates mixed")
			mixed[i].Addresses = rapid.Permutation(mixed[i].Addresses).Draw(t, "addresses mixed")
		}
		if diff := cmp.Diff(want, Owners(mixed), compareAddrs); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestInputsAreNotChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := wild(t)
		before := fmt.Sprint(claims)
		Owners(claims)
		if after := fmt.Sprint(claims); before != after {
			t.Fatalf("before %s\nafter  %s", before, after)
		}
	})
}

func TestLearningTheOwnersChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := wild(t)
		want := ownersOf(claims)
		if diff := cmp.Diff(want, ownersOf(withPresent(claims, want))); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

// A node that has heard of only some of the new owners decides like the others.
func TestLearningSomeOwnersChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := uniform(t, false)
		if len(claims) == 0 {
			return
		}
		dead := drawNode(t, claims, "dead")
		claims = withStanding(withPresent(claims, ownersOf(claims)), dead, Absent)
		want := ownersOf(claims)
		some := slices.Clone(claims)
		for i := range some {
			if rapid.Bool().Draw(t, "learned") {
				some[i].Present = want[some[i].Key]
			}
		}
		if diff := cmp.Diff(want, ownersOf(some)); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestEveryAddressHasAnOwnerThatMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := wild(t)
		owners := ownersOf(claims)
		byAddr := map[netip.Addr]string{}
		for _, c := range claims {
			alive := slices.ContainsFunc(c.Candidates, func(x Candidate) bool {
				return x.Standing != Absent && !slices.ContainsFunc(c.Candidates, func(y Candidate) bool {
					return x.Node == y.Node && y.Standing == Absent
				})
			})
			if alive && owners[c.Key] == "" {
				// Only a claim it shares an address with may have marked all of them absent.
				shared := slices.ContainsFunc(claims, func(o Claim) bool { return o.Key != c.Key && len(o.Addresses) > 0 })
				if !shared {
					t.Fatalf("%s has a living candidate and no owner", c.Key)
				}
			}
			for _, a := range c.Addresses {
				if other, ok := byAddr[a]; ok && other != owners[c.Key] {
					t.Fatalf("%s has two owners, %q and %q", a, other, owners[c.Key])
				}
				byAddr[a] = owners[c.Key]
			}
		}
	})
}

func TestBound(t *testing.T) {
	for _, pairs := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			claims := uniform(t, pairs)
			if len(claims) == 0 {
				return
			}
			// Nodes die and return in any order, and everybody learns the owners each time.
			nodes, heaviest := len(claims[0].Candidates), 1
			dead := map[string]bool{}
			for range rapid.IntRange(0, 5).Draw(t, "events") {
				n := drawNode(t, claims, "node")
				dead[n] = !dead[n]
				claims = withStanding(claims, n, map[bool]Standing{true: Absent, false: Fit}[dead[n]])
				claims = withPresent(claims, ownersOf(claims))
			}
			for _, is := range dead {
				if is {
					nodes--
				}
			}
			if nodes == 0 {
				return
			}
			total := 0
			for _, c := range claims {
				total += len(c.Addresses)
				heaviest = max(heaviest, len(c.Addresses))
			}
			bound := (5*total+4*nodes-1)/(4*nodes) + heaviest - 1
			for n, have := range addressesPerNode(claims, ownersOf(claims)) {
				if have > bound {
					t.Fatalf("%s owns %d of %d addresses on %d nodes, bound %d", n, have, total, nodes, bound)
				}
			}
		})
	}
}

func TestOnlyTheAddressesOfALostNodeMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := uniform(t, true)
		if len(claims) == 0 {
			return
		}
		for range rapid.IntRange(1, 5).Draw(t, "losses") {
			before := ownersOf(claims)
			claims = withPresent(claims, before)
			lost := drawNode(t, claims, "lost")
			worse := rapid.SampledFrom([]Standing{Absent, Reluctant}).Draw(t, "standing")
			if worse <= standingOf(claims, lost) {
				continue // that would be no loss
			}
			claims = withStanding(claims, lost, worse)
			for key, owner := range ownersOf(claims) {
				if before[key] != lost && owner != before[key] {
					t.Fatalf("%s moved from %s to %s when %s was lost", key, before[key], owner, lost)
				}
			}
		}
	})
}

// The first loss moves nothing else even for a node that knows no owner yet.
func TestOnlyTheAddressesOfTheFirstLostNodeMoveUntold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := uniform(t, true)
		if len(claims) == 0 {
			return
		}
		lost := drawNode(t, claims, "lost")
		before := ownersOf(claims)
		for key, owner := range ownersOf(withStanding(claims, lost, Absent)) {
			if before[key] != lost && owner != before[key] {
				t.Fatalf("%s moved from %s to %s when %s was lost", key, before[key], owner, lost)
			}
		}
	})
}

func TestReturn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := uniform(t, true)
		if len(claims) == 0 {
			return
		}
		home := ownersOf(claims)
		lost := drawNode(t, claims, "lost")
		during := ownersOf(withStanding(withPresent(claims, home), lost, Absent))
		claims = withPresent(claims, during)
		if diff := cmp.Diff(home, ownersOf(claims)); diff != "" {
			t.Fatalf("failback auto restores (-want +got)\n%s", diff)
		}
		if len(claims[0].Candidates) == 1 {
			return
		}
		for i := range claims {
			claims[i].Keep = true
		}
		if diff := cmp.Diff(during, ownersOf(claims)); diff != "" {
			t.Fatalf("failback never keeps (-want +got)\n%s", diff)
		}
	})
}

func TestTheRunnerUpRunsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := wild(t)
		verdicts := Owners(claims)
		owners := ownersOf(claims)
		for _, v := range verdicts {
			if v.Owner == "" {
				continue
			}
			next := ownersOf(withStanding(withPresent(claims, owners), v.Owner, Absent))
			if next[v.Key] != v.RunnerUp && !tied(claims) {
				t.Fatalf("%s: runner-up %q, but %q followed", v.Key, v.RunnerUp, next[v.Key])
			}
		}
	})
}

// tied says whether two claims share an address: then a death may change who can serve
// all of them, which the runner-up does not foresee.
func tied(claims []Claim) bool {
	seen := map[netip.Addr]bool{}
	for _, c := range claims {
		for _, a := range sortedUnique(c.Addresses, netip.Addr.Compare) {
			if seen[a] {
				return true
			}
			seen[a] = true
		}
	}
	return false
}
