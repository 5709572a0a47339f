package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

func addrs(texts ...string) []netip.Addr {
	var found []netip.Addr
	for _, text := range texts {
		found = append(found, netip.MustParseAddr(text))
	}
	return found
}

func TestReportPeers(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 500, time.UTC)
	router := netip.MustParseAddr("172.30.0.1")
	reached := bgp.Report{Peers: []bgp.PeerReport{
		{Key: "down", State: bgp.Connect, Since: at, Reason: "refused", LastError: "Cease: go away", LastErrorAt: at},
		{
			Key: "tor", Address: router, Local: netip.MustParseAddr("172.30.0.11"), ASN: 4200000001, RouterID: router,
			State: bgp.Established, Since: at, Families: []bgp.Family{bgp.IPv6, bgp.IPv4}, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second,
			GracefulRestart: true, Prefixes: 7,
		},
		{Key: "young", Address: netip.MustParseAddr("172.30.0.2"), State: bgp.Established, Since: at},
	}}
	watched := []bfd.Report{
		{Session: bfd.Session{Peer: router, Local: netip.MustParseAddr("172.30.0.99")}, State: bfd.Up},
		{Session: bfd.Session{Peer: router, Local: netip.MustParseAddr("172.30.0.11")}, State: bfd.Down},
	}
	plan := RoutePlan{Watch: map[string]PathWatch{"tor": {}, "young": {}}}
	second := metav1.Time{Time: at.Truncate(time.Second)}
	want := []v1beta1.PeerSession{
		{Name: "down", State: "Connect", Since: &second, Reason: "refused", LastError: "Cease: go away", LastErrorAt: &second},
		{
			Name: "tor", Address: "172.30.0.1", LocalAddress: "172.30.0.11", ASN: 4200000001, RouterID: "172.30.0.1", State: "Established",
			Since: &second, Families: []string{"ipv4-unicast", "ipv6-unicast"}, HoldTime: &metav1.Duration{Duration: 9 * time.Second},
			KeepaliveTime: &metav1.Duration{Duration: 3 * time.Second}, GracefulRestart: true, Prefixes: 7,
			BFD: "Down", BFDReason: "BFD Down: nothing heard from 172.30.0.1",
		},
		{Name: "young", Address: "172.30.0.2", State: "Established", Since: &second, BFDReason: "the path is watched once the BGP session has been up for a second"},
	}
	got := reportPeers(reached, watched, plan)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
	if n := establishedPeers(got); n != 2 {
		t.Errorf("%d sessions are established, want 2", n)
	}
}

func TestReportRoutes(t *testing.T) {
	both := []bgp.Family{bgp.IPv4, bgp.IPv6}
	reached := bgp.Report{Peers: []bgp.PeerReport{
		{Key: "a", State: bgp.Established, Families: both},
		{Key: "b", State: bgp.Established, Families: both[:1]},
		{Key: "c", State: bgp.Connect, Families: both},
	}}
	plan := RoutePlan{Told: map[string][]netip.Addr{
		"a": addrs("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.1.1", "fd00::1", "fd00::2"),
		"b": addrs("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "fd00::1"),
		"c": addrs("10.0.0.1", "10.9.9.9"),
	}}
	want := []v1beta1.PeerRoutes{
		{Peers: "a", Addresses: []string{"10.0.1.1", "fd00::1-fd00::2"}},
		{Peers: "a,b", Addresses: []string{"10.0.0.1-10.0.0.3", "10.0.0.9"}},
	}
	if diff := cmp.Diff(want, reportRoutes(plan, reached)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestRouteProblems(t *testing.T) {
	other := problem{"bgppeer/b", v1beta1.ReasonDuplicatePeer, "it is a"}
	plan := RoutePlan{Problems: []problem{other}, Refusals: []Refusal{
		{Services: []string{"default/web", "default/dns"}, Reason: v1beta1.ReasonNoEndpoints, Message: "nobody"},
		{Services: []string{"default/fine"}, Reason: v1beta1.ReasonNoLocalEndpoint, Message: "not here", Elsewhere: true},
	}}
	want := []problem{other, {"service/default/dns", v1beta1.ReasonNoEndpoints, "nobody"}, {"service/default/web", v1beta1.ReasonNoEndpoints, "nobody"}}
	if diff := cmp.Diff(want, routeProblems(plan)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestFarewell asserts that a goodbye changes what routers are told of each prefix, and nothing else.
func TestFarewell(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.1/32")
	wish := bgp.Wish{Peers: []bgp.Peer{{Key: "a"}}, Routes: map[string][]bgp.Route{"a": {{Prefix: prefix, Communities: []uint32{1, bgp.GracefulShutdown + 5}}}}}
	want := []bgp.Route{{Prefix: prefix, LocalPref: bgp.Metric{Set: true}, Communities: []uint32{1, bgp.GracefulShutdown, bgp.GracefulShutdown + 5}}}
	got := farewell(wish)
	if diff := same(want, got.Routes["a"]); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if len(got.Peers) != 1 || !got.Peers[0].Equal(wish.Peers[0]) {
		t.Errorf("the peers are %v", got.Peers)
	}
}
