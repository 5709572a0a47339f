//go:build interop

package bgp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

const external = " neighbor 10.9.0.1 remote-as 64512\n address-family ipv4 unicast\n  neighbor 10.9.0.1 activate\n exit-address-family\n"

// untilError waits until the only session's last error contains the words.
func untilError(t testing.TB, room *bgp.Room, words string) bgp.PeerReport {
	t.Helper()
	routertest.Until(t, 15*time.Second, func() string {
		if p := room.Report().Peers[0]; !strings.Contains(p.LastError, words) {
			return fmt.Sprintf("last error %q, want %q (%s: %s)", p.LastError, words, p.State, p.Reason)
		}
		return ""
	})
	return room.Report().Peers[0]
}

// What goes wrong is named.
func TestErrorsAreNamed(t *testing.T) {
	router := startFRR(t, 64513, external)
	tests := []struct {
		name string
		peer func(*bgp.Peer)
		want string
	}{
		{"wrong peer ASN", func(p *bgp.Peer) { p.PeerASN = 64999 }, "it is in AS 64513, not in AS 64999"},
		{"not internal", func(p *bgp.Peer) { p.ASN = bgp.Internal }, "it is in AS 64513, not in ours, AS 64512"},
		{"our ASN is wrong", func(p *bgp.Peer) { p.LocalASN = 64600 }, "the peer ended the session: code 2(open) subcode 2(bad peer as)"},
		{"nobody listens", func(p *bgp.Peer) { p.Port = 1179 }, "connect to 10.9.0.2:1179: nothing listens there"},
		{"nobody there", func(p *bgp.Peer) { p.Address = addr("10.9.0.3") }, "no route to host"},
		{"no such source", func(p *bgp.Peer) { p.Source = addr("10.9.0.77") }, "this node does not have the source address 10.9.0.77"},
		{"no such VRF", func(p *bgp.Peer) { p.VRF = "blue" }, "this node does not have the interface blue"},
		{"wrong password", func(p *bgp.Peer) { p.Password = "x" }, "no answer, as if the password were wrong"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			room, peer := newRoom(t), basic()
			test.peer(&peer)
			apply(t, room, peer, v4())
			t.Logf("%s", untilError(t, room, test.want).LastError)
		})
	}
	_ = router
}

// A blocked peer is not tried, says why, and does not disturb; unblocked, it comes up.
func TestBlocked(t *testing.T) {
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	peer.Blocked = "Secret router-password not found"
	apply(t, room, peer, v4())
	routertest.Until(t, 5*time.Second, func() string {
		if p := room.Report().Peers[0]; p.State != bgp.Blocked || p.Reason != peer.Blocked {
			return fmt.Sprintf("%s: %q", p.State, p.Reason)
		}
		return ""
	})
	peer.Blocked = ""
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
	peer.Blocked = "the path is down"
	apply(t, room, peer, v4())
	untilFRR(t, router, "192.0.2.10/32", "")
	if got := router.Vtysh("show bgp neighbors 10.9.0.1"); !strings.Contains(got, "Administrative Shutdown") {
		t.Errorf("FRR does not know why:\n%s", got)
	}
}

// Unnumbered: neither side is told an address; IPv4 routes have an IPv6 next hop.
func TestUnnumbered(t *testing.T) {
	router := routertest.NewRouter(t, "frr")
	router.Link("unnumbered")
	router.StartFRR(fmt.Sprintf(frrBase, 64513) + ` neighbor unnumbered interface remote-as external
 address-family ipv4 unicast
  neighbor unnumbered activate
 exit-address-family
 address-family ipv6 unicast
  neighbor unnumbered activate
 exit-address-family
`)
	room, peer := newRoom(t), basic()
	peer.Address, peer.Interface, peer.PeerASN, peer.ASN = addr0, "unnumbered", 0, bgp.External
	apply(t, room, peer, v4(), v6())
	report, took := untilEstablished(t, room)
	local := report.Local.WithZone("").String()
	kernel(t, router, "192.0.2.10/32", local)
	kernel(t, router, "2001:db8::10/128", local)
	t.Logf("found %s, established after %s; FRR has %s", report.Address, took.Round(time.Millisecond), frr(router, "192.0.2.10/32"))
	room.Drop("router", "test")
	routertest.Until(t, 10*time.Second, func() string { // a later session needs advertisements still
		if room.Report().Peers[0].Established > 1 {
			return ""
		}
		return fmt.Sprintf("%+v", room.Report().Peers[0])
	})
}

// Unnumbered at BIRD: it takes whoever connects on the link, and advertises itself as a router, of nothing.
func TestUnnumberedBIRD(t *testing.T) {
	router := routertest.NewRouter(t, "bird")
	router.Link("unnumbered")
	router.StartBIRD(birdBase + `
protocol radv { interface "unnumbered" { max ra interval 4; default lifetime 0; }; }
protocol bgp nodes {
  local as 64513;
  interface "unnumbered";
  neighbor range fe80::/10 external;
  dynamic name "node";
  ipv4 { import all; export none; extended next hop on; };
  ipv6 { import all; export none; };
}
`)
	room, peer := newRoom(t), basic()
	peer.Address, peer.Interface, peer.PeerASN, peer.ASN = addr0, "unnumbered", 0, bgp.External
	apply(t, room, peer, v4(), v6())
	report, took := untilEstablished(t, room)
	local := report.Local.WithZone("").String()
	kernel(t, router, "192.0.2.10/32", local)
	kernel(t, router, "2001:db8::10/128", local)
	t.Logf("found %s, established after %s; BIRD has %s", report.Address, took.Round(time.Millisecond), bird(router, "192.0.2.10/32"))
}

// A thousand routes that come, change and go leave the session alone.
func TestRoutesDoNotTouchTheSession(t *testing.T) {
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	apply(t, room, peer)
	untilEstablished(t, room)
	var routes []bgp.Route
	for i := range 1000 {
		routes = append(routes, bgp.Route{Prefix: prefix(fmt.Sprintf("198.18.%d.%d/32", i/256, i%256))})
	}
	sent := func() uint64 { return room.Report().Peers[0].Updates }
	steps := []struct {
		name    string
		updates uint64
		routes  []bgp.Route
	}{
		{"create", 1000, routes}, {"same again", 0, routes},
		{"change one", 1, append([]bgp.Route{{Prefix: routes[0].Prefix, MED: bgp.Metric{Value: 9, Set: true}}}, routes[1:]...)},
		{"delete", 1, routes[1:]},
	}
	untilUpdates := func(want uint64) {
		t.Helper()
		routertest.Until(t, 10*time.Second, func() string {
			if got := sent(); got < want {
				return fmt.Sprintf("%d UPDATEs, want %d", got, want)
			}
			return ""
		})
	}
	for _, step := range steps {
		before := sent()
		apply(t, room, peer, step.routes...)
		untilUpdates(before + step.updates)
		if got := sent() - before; got != step.updates {
			t.Errorf("%s: %d UPDATEs, want %d", step.name, got, step.updates)
		}
	}
	router.Until(10*time.Second, func() string {
		if got := router.Vtysh("show bgp ipv4 unicast summary"); !strings.Contains(got, " 999 ") {
			return got
		}
		return ""
	})
	if got := room.Report().Peers[0]; got.Established != 1 || got.Prefixes != 999 {
		t.Errorf("%d sessions, %d prefixes; want 1, 999", got.Established, got.Prefixes)
	}
	apply(t, room, peer)
}

// A changed setting opens a new session; the peer learns why.
func TestSettingsChange(t *testing.T) {
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	peer.HoldTime = 30 * time.Second
	apply(t, room, peer, v4())
	report, _ := untilEstablished(t, room)
	if report.HoldTime != 30*time.Second {
		t.Errorf("hold time %s, want 30s", report.HoldTime)
	}
	untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
	if _, err := room.Apply(t.Context(), bgp.Wish{}); err != nil {
		t.Fatal(err)
	}
	if got := router.Vtysh("show bgp neighbors 10.9.0.1"); !strings.Contains(got, "Peer Unconfigured") && !strings.Contains(got, "Peer De-configured") {
		t.Errorf("FRR does not know why:\n%s", got)
	}
}

// A restart of the speaker loses no route at a peer with graceful restart; a node that
// goes away does.
func TestGracefulRestart(t *testing.T) {
	router := startFRR(t, 64513, " bgp graceful-restart\n"+external)
	peer := basic()
	peer.GracefulRestart = 60 * time.Second
	first := newRoom(t)
	apply(t, first, peer, v4())
	untilEstablished(t, first)
	kernel(t, router, "192.0.2.10/32", "10.9.0.1")
	monitor := router.Monitor()
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	router.Until(5*time.Second, func() string {
		if got := router.Vtysh("show bgp ipv4 unicast 192.0.2.10/32"); !strings.Contains(got, "stale") {
			return got
		}
		return ""
	})
	kernel(t, router, "192.0.2.10/32", "10.9.0.1")
	second := newRoom(t)
	apply(t, second, peer, v4())
	report, took := untilEstablished(t, second)
	router.Until(5*time.Second, func() string {
		if got := router.Vtysh("show bgp ipv4 unicast 192.0.2.10/32"); strings.Contains(got, "stale") {
			return got
		}
		return ""
	})
	if events := monitor(); events != "" {
		t.Errorf("the router's kernel saw the restart:\n%s", events)
	}
	if !report.GracefulRestart {
		t.Error("graceful restart was not negotiated")
	}
	t.Logf("back after %s, no change of the router's kernel routes", took.Round(time.Millisecond))
	if err := second.Close("node shuts down"); err != nil {
		t.Fatal(err)
	}
	untilFRR(t, router, "192.0.2.10/32", "")
}
