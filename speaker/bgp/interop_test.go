//go:build interop

package bgp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

func TestMain(m *testing.M) { os.Exit(routertest.Main(m)) }

var (
	addr   = netip.MustParseAddr
	addr0  netip.Addr
	prefix = netip.MustParsePrefix
	links  = []string{"10.9.0.1/24 10.9.0.2/24", "fd09::1/64 fd09::2/64"}
)

// basic is a peer at the router's end of the link, AS 64512 to AS 64513.
func basic() bgp.Peer {
	return bgp.Peer{
		Key: "router", Address: addr("10.9.0.2"), LocalASN: 64512, PeerASN: 64513,
		RouterID: addr("10.9.0.1"), ConnectRetry: time.Second, HoldTime: 9 * time.Second,
	}
}

func newLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func newRoom(t testing.TB) *bgp.Room {
	room := bgp.New(context.Background(), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := room.Close("test over"); err != nil {
			t.Error(err)
		}
	})
	return room
}

func apply(t testing.TB, room *bgp.Room, p bgp.Peer, routes ...bgp.Route) {
	t.Helper()
	wish := bgp.Wish{Peers: []bgp.Peer{p}, Routes: map[string][]bgp.Route{p.Key: routes}}
	if _, err := room.Apply(t.Context(), wish); err != nil {
		t.Fatal(err)
	}
}

func untilEstablished(t testing.TB, room *bgp.Room) (bgp.PeerReport, time.Duration) {
	t.Helper()
	took := routertest.Until(t, 15*time.Second, func() string {
		for _, p := range room.Report().Peers {
			if p.State != bgp.Established {
				return fmt.Sprintf("%s: %s (last error: %s)", p.State, p.Reason, p.LastError)
			}
		}
		return ""
	})
	return room.Report().Peers[0], took
}

// frrRoute is a path in FRR's table.
type frrRoute struct {
	Valid     bool    `json:"valid"`
	Stale     bool    `json:"stale"`
	LocalPref *uint32 `json:"locPrf"`
	Metric    uint32  `json:"metric"`
	ASPath    struct {
		String string `json:"string"`
	} `json:"aspath"`
	Community struct {
		String string `json:"string"`
	} `json:"community"`
	Large struct {
		String string `json:"string"`
	} `json:"largeCommunity"`
	NextHops []struct {
		IP   string `json:"ip"`
		Used bool   `json:"used"`
	} `json:"nexthops"`
}

// String is the route in one line.
func (r frrRoute) String() string {
	var hops []string
	for _, h := range r.NextHops {
		hops = append(hops, h.IP)
	}
	s := fmt.Sprintf("via %s aspath %q", strings.Join(hops, ","), r.ASPath.String)
	if r.LocalPref != nil {
		s += fmt.Sprintf(" localpref %d", *r.LocalPref)
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" med %d", r.Metric)
	}
	if r.Community.String != "" {
		s += fmt.Sprintf(" community %q", r.Community.String)
	}
	if r.Large.String != "" {
		s += fmt.Sprintf(" large %q", r.Large.String)
	}
	if !r.Valid {
		s += " INVALID"
	}
	return s
}

// frr returns what FRR has for the prefix, in one line; empty for nothing.
func frr(r *routertest.Router, p string) string {
	family := "ipv4"
	if strings.Contains(p, ":") {
		family = "ipv6"
	}
	var answer struct {
		Paths []frrRoute `json:"paths"`
	}
	if err := json.Unmarshal([]byte(r.Vtysh("show bgp "+family+" unicast "+p+" json")), &answer); err != nil {
		return ""
	}
	var lines []string
	for _, path := range answer.Paths {
		lines = append(lines, path.String())
	}
	return strings.Join(lines, "; ")
}

func untilFRR(t testing.TB, r *routertest.Router, p, want string) {
	t.Helper()
	r.Until(10*time.Second, func() string {
		if got := frr(r, p); got != want {
			return fmt.Sprintf("FRR has %s\n got %s\nwant %s", p, got, want)
		}
		return ""
	})
}

// kernel waits until the router's kernel forwards the prefix to the address.
func kernel(t testing.TB, r *routertest.Router, p, via string) {
	t.Helper()
	family := "-4"
	if strings.Contains(p, ":") {
		family = "-6"
	}
	r.Until(10*time.Second, func() string {
		if got := r.Run("ip", family, "route", "show", p); !strings.Contains(got, "via "+via) && !strings.Contains(got, "via inet6 "+via) {
			return fmt.Sprintf("kernel routes %s: %q, want via %s", p, got, via)
		}
		return ""
	})
}

const frrBase = `
router bgp %d
 bgp router-id 10.9.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart stalepath-time 60
`

func startFRR(t testing.TB, asn uint32, config string) *routertest.Router {
	t.Helper()
	router := routertest.NewRouter(t, "frr")
	router.Link("r1", links...)
	router.StartFRR(fmt.Sprintf(frrBase, asn) + config)
	return router
}

func v4() bgp.Route { return bgp.Route{Prefix: prefix("192.0.2.10/32")} }
func v6() bgp.Route { return bgp.Route{Prefix: prefix("2001:db8::10/128")} }

func TestFRR(t *testing.T) {
	const activate = " address-family ipv4 unicast\n  neighbor 10.9.0.1 activate\n exit-address-family\n"
	const both = activate + " address-family ipv6 unicast\n  neighbor 10.9.0.1 activate\n exit-address-family\n"
	tests := []struct {
		name   string
		asn    uint32
		config string
		peer   func(*bgp.Peer)
		route  func(*bgp.Route)
		want   map[string]string
	}{
		{
			name: "eBGP", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n" + activate,
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "64512"`},
		}, {
			name: "eBGP with all attributes", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n" + activate,
			route: func(r *bgp.Route) {
				r.MED, r.Prepend, r.LocalPref = bgp.Metric{Value: 30, Set: true}, 2, bgp.Metric{Value: 7, Set: true}
				r.Communities = []uint32{64512<<16 | 5, 65535<<16 | 65281}
				r.Large = []bgp.LargeCommunity{{Global: 64512, Data1: 1, Data2: 2}}
			},
			want: map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "64512 64512 64512" med 30 community "64512:5 no-export" large "64512:1:2"`},
		}, {
			name: "iBGP with local preference", asn: 64512,
			config: " neighbor 10.9.0.1 remote-as 64512\n" + activate,
			peer:   func(p *bgp.Peer) { p.ASN = bgp.Internal },
			route:  func(r *bgp.Route) { r.LocalPref = bgp.Metric{Value: 222, Set: true} },
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "Local" localpref 222`},
		}, {
			name: "4-byte ASNs, any external", asn: 4200000002,
			config: " neighbor 10.9.0.1 remote-as 4200000001\n" + activate,
			peer:   func(p *bgp.Peer) { p.LocalASN, p.PeerASN, p.ASN = 4200000001, 0, bgp.External },
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "4200000001"`},
		}, {
			name: "MD5", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n neighbor 10.9.0.1 password s3cret\n" + activate,
			peer:   func(p *bgp.Peer) { p.Password = "s3cret" },
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "64512"`},
		}, {
			name: "GTSM", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n neighbor 10.9.0.1 ttl-security hops 1\n" + activate,
			peer:   func(p *bgp.Peer) { p.TTLSecurity = 1 },
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "64512"`},
		}, {
			name: "dual stack in one session over IPv4", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n" + both,
			peer:   func(p *bgp.Peer) { p.Families = []bgp.Family{bgp.IPv4, bgp.IPv6} },
			want: map[string]string{
				"192.0.2.10/32":    `via 10.9.0.1 aspath "64512"`,
				"2001:db8::10/128": `via fd09::1 aspath "64512"`,
			},
		}, {
			name: "dual stack in one session over IPv6, with MD5", asn: 64513,
			config: " neighbor fd09::1 remote-as 64512\n neighbor fd09::1 password s3cret\n" + strings.ReplaceAll(both, "10.9.0.1", "fd09::1"),
			peer: func(p *bgp.Peer) {
				p.Address, p.Password, p.Families = addr("fd09::2"), "s3cret", []bgp.Family{bgp.IPv4, bgp.IPv6}
			},
			want: map[string]string{
				"192.0.2.10/32":    `via 10.9.0.1 aspath "64512"`,
				"2001:db8::10/128": `via fd09::1 aspath "64512"`,
			},
		}, {
			name: "graceful shutdown", asn: 64513,
			config: " neighbor 10.9.0.1 remote-as 64512\n" + activate,
			route:  func(r *bgp.Route) { *r = r.Draining() },
			want:   map[string]string{"192.0.2.10/32": `via 10.9.0.1 aspath "64512" localpref 0 community "graceful-shutdown"`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			router := startFRR(t, test.asn, test.config)
			room, peer, a, b := newRoom(t), basic(), v4(), v6()
			if test.peer != nil {
				test.peer(&peer)
			}
			if test.route != nil {
				test.route(&a)
			}
			apply(t, room, peer, a, b)
			report, took := untilEstablished(t, room)
			for p, want := range test.want {
				untilFRR(t, router, p, want)
				kernel(t, router, p, strings.Fields(want)[1])
			}
			if report.Prefixes != len(test.want) || report.ASN != test.asn || report.RouterID != addr("10.9.0.2") {
				t.Errorf("report %+v", report)
			}
			apply(t, room, peer)
			for p := range test.want {
				untilFRR(t, router, p, "")
			}
			t.Logf("established after %s, hold time %s", took.Round(time.Millisecond), report.HoldTime)
		})
	}
}
