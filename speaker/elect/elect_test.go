package elect

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestOwners(t *testing.T) {
	// For this address rendezvous hashing prefers node2, then node1, then node3.
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	c := func(node string, standing Standing) Candidate { return Candidate{Node: node, Standing: standing} }
	tests := map[string]struct {
		claim Claim
		want  Verdict
	}{
		"all fit": {
			Claim{Candidates: []Candidate{c("node1", Fit), c("node2", Fit), c("node3", Fit)}},
			Verdict{Owner: "node2", RunnerUp: "node1", Home: "node2", Reason: "node2 is its home among 3 candidates"},
		},
		"nobody": {Claim{}, Verdict{Reason: "no node may announce it"}},
		"all dead": {
			Claim{Candidates: []Candidate{c("node1", Absent), c("node2", Absent)}},
			Verdict{Home: "node2", Reason: "none of its 2 candidates is alive"},
		},
		"alone": {
			Claim{Candidates: []Candidate{c("node3", Fit)}},
			Verdict{Owner: "node3", Home: "node3", Reason: "node3 is its home among 1 candidates"},
		},
		"home dead": {
			Claim{Candidates: []Candidate{c("node1", Fit), c("node2", Absent), c("node3", Fit)}},
			Verdict{Owner: "node1", RunnerUp: "node3", Home: "node2", Reason: "node1 stands in for it; its home node2 is absent"},
		},
		"home dead, another has it": {
			Claim{Present: "node3", Candidates: []Candidate{c("node1", Fit), c("node2", Absent), c("node3", Fit)}},
			Verdict{Owner: "node3", RunnerUp: "node1", Home: "node2", Reason: "node3 has it; its home node2 is absent"},
		},
		"home is back": {
			Claim{Present: "node3", Candidates: []Candidate{c("node1", Fit), c("node2", Fit), c("node3", Fit)}},
			Verdict{Owner: "node2", RunnerUp: "node1", Home: "node2", Reason: "node2 is its home among 3 candidates"},
		},
		"home is back, but the address is kept": {
			Claim{Present: "node3", Keep: true, Candidates: []Candidate{c("node1", Fit), c("node2", Fit), c("node3", Fit)}},
			Verdict{Owner: "node3", RunnerUp: "node2", Home: "node2", Reason: "node3 has it and keeps it; its home node2 is back"},
		},
		"kept by one that drains": {
			Claim{Present: "node3", Keep: true, Candidates: []Candidate{c("node1", Fit), c("node2", Fit), c("node3", Reluctant)}},
			Verdict{Owner: "node2", RunnerUp: "node1", Home: "node2", Reason: "node2 is its home among 3 candidates"},
		},
		"home drains": {
			Claim{Present: "node2", Candidates: []Candidate{c("node1", Fit), c("node2", Reluctant), c("node3", Fit)}},
			Verdict{Owner: "node1", RunnerUp: "node3", Home: "node2", Reason: "node1 stands in for it; its home node2 is reluctant"},
		},
		"all drain": {
			Claim{Present: "node2", Candidates: []Candidate{c("node1", Reluctant), c("node2", Reluctant)}},
			Verdict{Owner: "node2", RunnerUp: "node1", Home: "node2", Reason: "node2 is its home among 2 candidates, reluctantly: no candidate is fit"},
		},
		"preferred": {
			Claim{Candidates: []Candidate{c("node1", Fit), c("node2", Fit), {Node: "node3", Preference: 5}}},
			Verdict{Owner: "node3", RunnerUp: "node2", Home: "node3", Reason: "node3 is its home among 3 candidates"},
		},
		"preferred is dead": {
			Claim{Candidates: []Candidate{c("node1", Fit), c("node2", Fit), {Node: "node3", Preference: 5, Standing: Absent}}},
			Verdict{Owner: "node2", RunnerUp: "node1", Home: "node3", Reason: "node2 stands in for it; its home node3 is absent"},
		},
		"named twice, once as draining": {
			Claim{Candidates: []Candidate{c("node2", Fit), c("node2", Reluctant), c("node1", Fit)}},
			Verdict{Owner: "node1", RunnerUp: "node2", Home: "node2", Reason: "node1 stands in for it; its home node2 is reluctant"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.claim.Key, tt.claim.Addresses = "shop/web", addrs
			tt.want.Key, tt.want.Addresses = "shop/web", addrs
			if diff := cmp.Diff([]Verdict{tt.want}, Owners([]Claim{tt.claim}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSharedAddressesStayTogether(t *testing.T) {
	a := func(s ...string) (out []netip.Addr) {
		for _, x := range s {
			out = append(out, netip.MustParseAddr(x))
		}
		return out
	}
	on := func(nodes ...string) (out []Candidate) {
		for _, n := range nodes {
			out = append(out, Candidate{Node: n})
		}
		return out
	}
	tests := map[string]struct {
		claims []Claim
		want   map[string]string
		reason string
	}{
		"in the intersection of their nodes": {
			[]Claim{
				{Key: "ns/a", Addresses: a("192.0.2.1"), Candidates: on("n1", "n2")},
				{Key: "ns/b", Addresses: a("192.0.2.1", "2001:db8::1"), Candidates: on("n2", "n3")},
				{Key: "ns/c", Addresses: a("2001:db8::1"), Candidates: on("n2", "n4")},
			},
			map[string]string{"ns/a": "n2", "ns/b": "n2", "ns/c": "n2"},
			"n2 is its home among 1 candidates; ns/a, ns/b, ns/c share an address and stay together",
		},
		"anywhere, if there is none": {
			[]Claim{
				{Key: "ns/a", Addresses: a("192.0.2.1"), Candidates: on("n1")},
				{Key: "ns/b", Addresses: a("192.0.2.1"), Candidates: on("n2")},
			},
			map[string]string{"ns/a": "n1", "ns/b": "n1"},
			"n1 is its home among 2 candidates; ns/a, ns/b share an address and stay together, though no node alive can serve all of them",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			verdicts := Owners(tt.claims)
			for _, v := range verdicts {
				got[v.Key] = v.Owner
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.reason, verdicts[0].Reason); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSpreadOf300(t *testing.T) {
	claims := pool(300, 3)
	spread := map[string]int{}
	for _, v := range Owners(claims) {
		spread[v.Owner]++
	}
	t.Log(spread)
	for n, have := range spread {
		if have < 75 || have > 125 {
			t.Errorf("%s owns %d of 300 on 3 nodes", n, have)
		}
	}
}

// pool is so many consecutive addresses that every one of so many nodes may own.
func pool(addresses, nodes int) []Claim {
	var cands []Candidate
	for n := range nodes {
		cands = append(cands, Candidate{Node: fmt.Sprintf("node%d", n+1)})
	}
	var claims []Claim
	addr := netip.MustParseAddr("172.30.0.200")
	for i := range addresses {
		claims = append(claims, Claim{Key: fmt.Sprintf("ns/s%d", i), Addresses: []netip.Addr{addr}, Candidates: cands})
		addr = addr.Next()
	}
	return claims
}

func BenchmarkOwners(b *testing.B) {
	claims := pool(300, 20)
	for b.Loop() {
		Owners(claims)
	}
}
