package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		subnet subnet
		last   int
		v4, v6 string
	}{
		{lan, 1, "172.30.0.1", "fd30::1"},
		{lan, 10, "172.30.0.10", "fd30::10"},
		{lan, 200, "172.30.0.200", "fd30::200"},
		{wan, 20, "172.31.0.20", "fd31::20"},
	} {
		v4, v6 := test.subnet.addresses(test.last)
		want := []netip.Addr{netip.MustParseAddr(test.v4), netip.MustParseAddr(test.v6)}
		if diff := cmp.Diff(want, []netip.Addr{v4, v6}, cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("%s %d (-want +got):\n%s", test.subnet.Name, test.last, diff)
		}
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func TestRoutes(t *testing.T) {
	for name, want := range map[string][]string{
		"client": {"0.0.0.0/0 via 172.30.0.1", "::/0 via fd30::1"},
		"remote": {"0.0.0.0/0 via 172.31.0.1", "::/0 via fd31::1"},
		"node2": {
			"0.0.0.0/0 via 172.30.0.1", "::/0 via fd30::1",
			"10.244.1.0/24 via 172.30.0.11", "fd44:1::/64 via fd30::11",
			"10.244.3.0/24 via 172.30.0.13", "fd44:3::/64 via fd30::13",
		},
		"router": {
			"10.244.1.0/24 via 172.30.0.11", "fd44:1::/64 via fd30::11",
			"10.244.2.0/24 via 172.30.0.12", "fd44:2::/64 via fd30::12",
			"10.244.3.0/24 via 172.30.0.13", "fd44:3::/64 via fd30::13",
		},
	} {
		h, err := findHost(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range h.routes() {
			got = append(got, fmt.Sprintf("%s via %s", r.Dst, r.Via))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("routes of %s (-want +got):\n%s", name, diff)
		}
	}
}

// Every gateway must lie in a subnet of the host, and no two interfaces may share an address or a name.
func TestTopologyHolds(t *testing.T) {
	taken := map[string]string{}
	for _, h := range hosts() {
		for i, n := range h.NICs {
			for _, key := range []string{n.prefixes()[0].Addr().String(), n.prefixes()[1].Addr().String(), fmt.Sprintf("%x", n.mac())} {
				if other, ok := taken[key]; ok {
					t.Errorf("%s eth%d and %s both have %s", h.Name, i, other, key)
				}
				taken[key] = h.Name
			}
		}
		for _, r := range h.routes() {
			if !h.reaches(r.Via) {
				t.Errorf("%s has no subnet with %s, the gateway to %s", h.Name, r.Via, r.Dst)
			}
		}
		if len(h.Name) > 15 {
			t.Errorf("%s is too long for the name of a bridge port", h.Name)
		}
	}
}

func (h host) reaches(a netip.Addr) bool {
	for _, n := range h.NICs {
		for _, p := range n.prefixes() {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

func TestFindHostNamesAll(t *testing.T) {
	_, err := findHost("node9")
	want := `no host "node9" in the lab, it has [control node1 node2 node3 client router router2 remote]`
	if err == nil || err.Error() != want {
		t.Errorf("want %q, got %v", want, err)
	}
}
