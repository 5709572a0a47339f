package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var compare = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func comparePrefixes(a, b netip.Prefix) bool { return a == b }

func TestPlan(t *testing.T) {
	peer := Peer{Key: "a", Address: netip.MustParseAddr("10.0.0.1"), LocalASN: 1, PeerASN: 2}
	one := Route{Prefix: netip.MustParsePrefix("192.0.2.1/32")}
	two := Route{Prefix: netip.MustParsePrefix("192.0.2.2/32")}
	changed := one
	changed.MED = Metric{5, true}
	wish := func(p Peer, routes ...Route) Wish {
		return Wish{Peers: []Peer{p}, Routes: map[string][]Route{p.Key: routes}}
	}
	with := func(change func(*Peer)) Peer { p := peer; change(&p); return p }
	tests := []struct {
		name       string
		have, want Wish
		changes    []Change
	}{
		{"nothing", Wish{}, Wish{}, nil},
		{"the same", wish(peer, one, two), wish(peer, two, one), nil},
		{"a peer comes", Wish{}, wish(peer, two, one), []Change{{Key: "a", Action: Open, Peer: peer, Announce: []Route{one, two}}}},
		{"a peer goes", wish(peer, one), Wish{}, []Change{{Key: "a", Action: Close}}},
		{"a route comes", wish(peer, one), wish(peer, one, two), []Change{{Key: "a", Action: Keep, Peer: peer, Announce: []Route{two}}}},
		{"a route changes", wish(peer, one), wish(peer, changed), []Change{{Key: "a", Action: Keep, Peer: peer, Announce: []Route{changed}}}},
		{"a route goes", wish(peer, one, two), wish(peer, two), []Change{{Key: "a", Action: Keep, Peer: peer, Withdraw: []netip.Prefix{one.Prefix}}}},
		{"blocked", wish(peer, one), wish(with(func(p *Peer) { p.Blocked = "why" }), one),
			[]Change{{Key: "a", Action: Retune, Peer: with(func(p *Peer) { p.Blocked = "why" })}}},
		{"connect retry", wish(peer), wish(with(func(p *Peer) { p.ConnectRetry = time.Second })),
			[]Change{{Key: "a", Action: Retune, Peer: with(func(p *Peer) { p.ConnectRetry = time.Second })}}},
		{"password", wish(peer, one), wish(with(func(p *Peer) { p.Password = "x" }), one, two),
			[]Change{{Key: "a", Action: Reopen, Peer: with(func(p *Peer) { p.Password = "x" }), Announce: []Route{one, two}}}},
		{"families", wish(peer), wish(with(func(p *Peer) { p.Families = []Family{IPv4} })),
			[]Change{{Key: "a", Action: Reopen, Peer: with(func(p *Peer) { p.Families = []Family{IPv4} })}}},
		{"graceful restart", wish(peer), wish(with(func(p *Peer) { p.GracefulRestart = time.Minute })),
			[]Change{{Key: "a", Action: Reopen, Peer: with(func(p *Peer) { p.GracefulRestart = time.Minute })}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.changes, Plan(test.have, test.want), compare, cmp.Comparer(comparePrefixes)); diff != "" {
				t.Error("(-want +got)", diff)
			}
		})
	}
}

// Whatever the routes, carrying out the plan leads to what is wanted, in the fewest
// steps, and never touches a session.
func TestPlanOfRoutes(t *testing.T) {
	peer := Peer{Key: "a"}
	route := rapid.Custom(func(t *rapid.T) Route {
		return Route{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, rapid.ByteRange(0, 9).Draw(t, "last")}), 32),
			MED:    Metric{rapid.Uint32Range(0, 1).Draw(t, "med"), true},
		}
	})
	routes := rapid.SliceOfDistinct(route, func(r Route) netip.Prefix { return r.Prefix })
	rapid.Check(t, func(t *rapid.T) {
		have, want := routes.Draw(t, "have"), routes.Draw(t, "want")
		table := map[netip.Prefix]Route{}
		for _, r := range have {
			table[r.Prefix] = r
		}
		changes := Plan(Wish{[]Peer{peer}, map[string][]Route{"a": have}}, Wish{[]Peer{peer}, map[string][]Route{"a": want}})
		for _, c := range changes {
			if c.Action != Keep {
				t.Fatalf("%s", c.Action)
			}
			for _, p := range c.Withdraw {
				delete(table, p)
			}
			for _, r := range c.Announce {
				if was, had := table[r.Prefix]; had && was.Equal(r) {
					t.Fatalf("%s is announced without need", r.Prefix)
				}
				table[r.Prefix] = r
			}
		}
		if len(table) != len(want) {
			t.Fatalf("%d routes, want %d", len(table), len(want))
		}
		for _, r := range want {
			if !table[r.Prefix].Equal(r) {
				t.Fatalf("%v, want %v", table[r.Prefix], r)
			}
		}
	})
}

func TestDraining(t *testing.T) {
	r := Route{Communities: []uint32{1, 1<<32 - 1}, LocalPref: Metric{300, true}}
	got := r.Draining()
	want := Route{Communities: []uint32{1, GracefulShutdown, 1<<32 - 1}, LocalPref: Metric{0, true}}
	if !got.Equal(want) || !got.Draining().Equal(want) || !slices.Equal(r.Communities, []uint32{1, 1<<32 - 1}) {
		t.Error(fmt.Sprint(got))
	}
}
