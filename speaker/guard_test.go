package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

var sameAddress = cmpopts.EquateComparable(netip.Addr{})

func up(count uint64) bgp.PeerReport {
	return bgp.PeerReport{Key: "tor", State: bgp.Established, Established: count, LastError: "the peer closed the connection"}
}

// Every step of a session is told once, also one that was over before anybody looked.
func TestTransitions(t *testing.T) {
	trying := bgp.PeerReport{Key: "tor", State: bgp.Connect, Reason: "connecting to 192.0.2.1"}
	failed := bgp.PeerReport{Key: "tor", State: bgp.Connect, LastError: "no answer"}
	blocked := bgp.PeerReport{Key: "tor", State: bgp.Blocked, Reason: "no Secret"}
	broken := bgp.PeerReport{Key: "tor", State: bgp.Connect, Established: 1, LastError: "BFD: nothing was heard for 300ms"}
	cameUp := transition{"tor", true, ""}
	for name, test := range map[string]struct {
		before, now bgp.PeerReport
		want        []transition
	}{
		"begins":                {bgp.PeerReport{}, trying, nil},
		"cannot connect":        {trying, failed, []transition{{"tor", false, "no answer"}}},
		"still cannot":          {failed, failed, nil},
		"comes up":              {failed, up(1), []transition{cameUp}},
		"is up at first sight":  {bgp.PeerReport{}, up(1), []transition{cameUp}},
		"stays up":              {up(1), up(1), nil},
		"goes down":             {up(1), broken, []transition{{"tor", false, "BFD: nothing was heard for 300ms"}}},
		"stays down":            {broken, broken, nil},
		"flaps between looks":   {up(1), up(2), []transition{{"tor", false, "the peer closed the connection"}, cameUp}},
		"is blocked":            {up(1), blocked, []transition{{"tor", false, "no Secret"}}},
		"is blocked from begin": {bgp.PeerReport{}, blocked, []transition{{"tor", false, "no Secret"}}},
		"stays blocked":         {blocked, blocked, nil},
	} {
		got := transitions([]bgp.PeerReport{test.before}, []bgp.PeerReport{test.now})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// BFD watches the paths of sessions that have settled, and a path that two sessions share once.
func TestPathsToWatch(t *testing.T) {
	near, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	local := netip.MustParseAddr("192.0.2.11")
	session := func(key string, peer netip.Addr, age time.Duration) bgp.PeerReport {
		return bgp.PeerReport{Key: key, State: bgp.Established, Address: peer, Local: local, Since: noon.Add(-age)}
	}
	plan := RoutePlan{
		Wish:  bgp.Wish{Peers: []bgp.Peer{{Key: "near", VRF: "blue"}, {Key: "far"}}},
		Watch: map[string]PathWatch{"near": {Profile: bfd.Profile{Multiplier: 4}}, "twin": {}, "far": {Multihop: true}, "young": {}},
	}
	got, by := pathsToWatch(plan, bgp.Report{Peers: []bgp.PeerReport{
		session("far", far, time.Minute), session("near", near, time.Minute), session("twin", near, time.Minute),
		session("unwatched", near, time.Minute), session("young", netip.MustParseAddr("192.0.2.3"), 0),
	}}, noon)
	want := []bfd.Session{
		{Peer: far, Local: local, Multihop: true},
		{Peer: near, Local: local, Interface: "blue", Profile: bfd.Profile{Multiplier: 4}},
	}
	if diff := cmp.Diff(want, got, sameAddress); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"near", "twin"}, by[pathKey{near, local}]); diff != "" {
		t.Errorf("sessions over the path (-want +got):\n%s", diff)
	}
}

// A speaker that restarts asks only those peers to look elsewhere that would forget it; a node that goes away asks all.
func TestPart(t *testing.T) {
	route := bgp.Route{Prefix: netip.MustParsePrefix("192.0.2.200/32")}
	sessions := bgp.Report{Peers: []bgp.PeerReport{
		{Key: "keeps", State: bgp.Established, GracefulRestart: true, Prefixes: 1},
		{Key: "forgets", State: bgp.Established, Prefixes: 1},
		{Key: "down", State: bgp.Connect},
	}}
	for _, test := range []struct {
		going bool
		want  string
		wait  time.Duration
	}{
		{false, "forgets", shortGoodbye},
		{true, "forgets keeps", 5 * time.Second},
	} {
		plan := RoutePlan{
			Wish:  bgp.Wish{Routes: map[string][]bgp.Route{"keeps": {route}, "forgets": {route}, "down": {route}}},
			Drain: map[string]time.Duration{"keeps": 5 * time.Second, "forgets": 3 * time.Second, "down": time.Hour},
		}
		wait := part(&plan, sessions, test.going)
		var asked []string
		for _, key := range []string{"down", "forgets", "keeps"} {
			if len(plan.Wish.Routes[key][0].Communities) > 0 {
				asked = append(asked, key)
			}
		}
		if got := strings.Join(asked, " "); got != test.want || wait != test.wait {
			t.Errorf("going %v: asked %q, waits %s; want %q, %s", test.going, got, wait, test.want, test.wait)
		}
	}
}

// What /proc/net/tcp and tcp6 list of other programs' sessions is understood on a little-endian machine.
func TestRival(t *testing.T) {
	text := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B001EAC:00B3 01001EAC:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   1: 0B001EAC:01BB 02001EAC:C351 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   2: 0B001EAC:00B3 03001EAC:C352 06 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   3: 000030FD000000000000000011000000:C000 000030FD000000000000000001000000:00B3 01 00000000:00000000 02:0000 0 0 0 0
   4: nonsense
`
	all := readConnections(strings.NewReader(text))
	if len(all) != 3 {
		t.Fatalf("want 3 established connections, got %v", all)
	}
	for peer, want := range map[string]string{
		"172.30.0.1": "172.30.0.11:179 to 172.30.0.1:50000", // the peer connected to the other daemon
		"172.30.0.2": "",                                    // a connection, but not BGP
		"172.30.0.3": "",                                    // a session that is over
		"fd30::1":    "[fd30::11]:49152 to [fd30::1]:179",
	} {
		session := bgp.PeerReport{State: bgp.Connect, Address: netip.MustParseAddr(peer)}
		got := rival(session, all)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: want %q in %q", peer, want, got)
		}
		session.State = bgp.OpenSent
		if got := rival(session, all); got != "" {
			t.Errorf("%s: a session that is being made has the rival %q", peer, got)
		}
	}
}
