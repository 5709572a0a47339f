//go:build interop

package bgp_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// A peer behind another address: one hop further than the link.
func TestMultihop(t *testing.T) {
	router := startFRR(t, 64513, strings.ReplaceAll(external, "remote-as 64512\n",
		"remote-as 64512\n neighbor 10.9.0.1 ebgp-multihop 3\n neighbor 10.9.0.1 update-source 10.99.0.2\n"))
	router.Run("ip", "addr", "add", "10.99.0.2/32", "dev", "lo")
	routertest.Node(t, "ip", "route", "add", "10.99.0.2/32", "via", "10.9.0.2")
	room, peer := newRoom(t), basic()
	peer.Address, peer.Source, peer.MultihopTTL = addr("10.99.0.2"), addr("10.9.0.1"), 3
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
}

// GTSM refuses packets that crossed a router, and takes them if the peer may be that far away: the same packets, told by
// their TTL alone.
func TestGTSMRefuses(t *testing.T) {
	router := startFRR(t, 64513, strings.ReplaceAll(external, "remote-as 64512\n", "remote-as 64512\n neighbor 10.9.0.1 ttl-security hops 2\n"))
	router.Run("nft", "add table ip hop; add chain ip hop out { type filter hook output priority 0; }; add rule ip hop out tcp sport 179 ip ttl set 254")
	room, peer := newRoom(t), basic()
	peer.TTLSecurity = 1
	apply(t, room, peer, v4())
	untilError(t, room, "no answer")
	if p := room.Report().Peers[0]; p.Established != 0 {
		t.Errorf("the session came up although the peer's packets crossed a router: %+v", p)
	}
	peer.TTLSecurity = 2
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
}

// BIRD, too, keeps the routes over a restart.
func TestGracefulRestartBIRD(t *testing.T) {
	router := routertest.NewRouter(t, "bird")
	router.Link("r1", links...)
	router.StartBIRD(birdBase + "protocol bgp node { local 10.9.0.2 as 64513; neighbor 10.9.0.1 as 64512; graceful restart on; ipv4 { import all; export none; }; }\n")
	peer := basic()
	peer.GracefulRestart = 60 * time.Second
	first := newRoom(t)
	apply(t, first, peer, v4())
	untilEstablished(t, first)
	kernel(t, router, "192.0.2.10", "10.9.0.1")
	monitor := router.Monitor()
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	second := newRoom(t)
	apply(t, second, peer, v4())
	untilEstablished(t, second)
	router.Until(5*time.Second, func() string {
		if got := router.Birdc("show protocols all node"); !strings.Contains(got, "1 imported") || strings.Contains(got, "Neighbor graceful restart active") {
			return got
		}
		return ""
	})
	if events := monitor(); events != "" {
		t.Errorf("the router's kernel saw the restart:\n%s", events)
	}
	if err := second.Close("node shuts down"); err != nil {
		t.Fatal(err)
	}
	untilBIRD(t, router, "192.0.2.10/32", "")
	if got := router.Birdc("show protocols all node"); !strings.Contains(got, "node shuts down") && !strings.Contains(got, "Administrative shutdown") {
		t.Errorf("BIRD does not know why:\n%s", got)
	}
}

// guard watches the paths of sessions that have settled, and of those only.
func guard(ctx context.Context, room *bgp.Room, paths *bfd.Room) {
	fast := bfd.Profile{Receive: 100 * time.Millisecond, Transmit: 100 * time.Millisecond}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-room.Bell():
		case <-paths.Bell():
		}
		for _, r := range paths.Report() {
			if r.Broken() {
				room.Drop("router", "BFD: "+r.Why)
			}
		}
		var want []bfd.Session
		for _, p := range room.Report().Peers {
			if p.Settled(time.Now()) {
				want = append(want, bfd.Session{Peer: p.Address, Local: p.Local, Profile: fast})
			}
		}
		for _, r := range paths.Apply(want) {
			if r.State == bfd.Up {
				room.PathUp("router")
			}
		}
	}
}

// A peer with BFD is told routes once BFD watches the path, and one that does not speak BFD after a while all the same: with
// the End-of-RIB marker behind them, so that a restart takes nothing away.
func TestRoutesWaitForBFD(t *testing.T) {
	for name, bfdLine := range map[string]string{"with": " neighbor 10.9.0.1 bfd 3 100 100\n", "without": ""} {
		t.Run(name, func(t *testing.T) {
			router := startFRR(t, 64513, " bgp graceful-restart\n"+strings.Replace(external, " address-family", bfdLine+" address-family", 1))
			peer := basic()
			peer.PathWait, peer.GracefulRestart = 4*time.Second, time.Minute
			live := func() (*bgp.Room, time.Duration) {
				room := newRoom(t)
				paths := bfd.New(t.Context(), slog.New(slog.DiscardHandler))
				t.Cleanup(paths.Close)
				go guard(t.Context(), room, paths)
				apply(t, room, peer, v4())
				if report, _ := untilEstablished(t, room); !report.Waiting || report.Prefixes != 0 {
					t.Errorf("the routes do not wait: %+v", report)
				}
				up := time.Now()
				routertest.Until(t, 10*time.Second, func() string {
					p := room.Report().Peers[0]
					if watched := paths.Report(); name == "with" && !p.Waiting && (len(watched) == 0 || watched[0].State != bfd.Up) {
						t.Fatalf("the routes went out before BFD was up: %+v", watched)
					}
					if p.Waiting || p.Prefixes != 1 {
						return fmt.Sprintf("%+v", p)
					}
					return ""
				})
				return room, time.Since(up)
			}
			first, took := live()
			kernel(t, router, "192.0.2.10/32", "10.9.0.1")
			if name == "with" && took > 3900*time.Millisecond || name == "without" && took < 3900*time.Millisecond {
				t.Errorf("the routes waited for %s", took)
			}
			if name == "with" { // a BFD session that ends without a handoff ends BGP
				return
			}
			monitor := router.Monitor()
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			live()
			kernel(t, router, "192.0.2.10/32", "10.9.0.1")
			if events := monitor(); events != "" {
				t.Errorf("the router's kernel saw the restart:\n%s", events)
			}
		})
	}
}

// BFD ends the session it guards at once and both sides say why; when the path is back,
// so is the session.
func TestBFD(t *testing.T) {
	router := startFRR(t, 64513, " neighbor 10.9.0.1 remote-as 64512\n neighbor 10.9.0.1 bfd 3 100 100\n"+
		" address-family ipv4 unicast\n  neighbor 10.9.0.1 activate\n exit-address-family\n")
	room, peer := newRoom(t), basic()
	paths := bfd.New(context.Background(), slog.New(slog.DiscardHandler))
	t.Cleanup(paths.Close)
	go guard(t.Context(), room, paths)
	apply(t, room, peer, v4())
	both := func() string {
		if p := room.Report().Peers[0]; p.State != bgp.Established {
			return fmt.Sprintf("BGP %s: %s", p.State, p.Reason)
		}
		for _, r := range paths.Report() {
			return r.Reason()
		}
		return "no BFD session"
	}
	routertest.Until(t, 15*time.Second, both)
	kernel(t, router, "192.0.2.10/32", "10.9.0.1")
	router.Until(10*time.Second, func() string {
		if got := router.Vtysh("show bfd peers brief"); !strings.Contains(got, " up ") {
			return got
		}
		return ""
	})
	if p := room.Report().Peers[0]; p.Established != 1 {
		t.Errorf("BFD made the session come up %d times, want 1: %s", p.Established, p.LastError)
	}
	for name, port := range map[string]string{"deaf": "in", "dumb": "out"} {
		routertest.Node(t, "nft", fmt.Sprintf("add table inet cut; add chain inet cut %[1]s { type filter hook %[1]sput priority 0; }; add rule inet cut %[1]s udp dport 3784 drop", port))
		cut := time.Now()
		down := routertest.Until(t, 5*time.Second, func() string {
			if p := room.Report().Peers[0]; !strings.Contains(p.LastError, "BFD") || p.LastErrorAt.Before(cut) {
				return fmt.Sprintf("%s: %q", p.State, p.LastError)
			}
			return ""
		})
		why := room.Report().Peers[0].LastError
		routertest.Node(t, "nft", "delete table inet cut")
		back := routertest.Until(t, 15*time.Second, both)
		t.Logf("%s: dropped after %s (%s), back %s later", name, down.Round(time.Millisecond), why, back.Round(time.Millisecond))
	}
}
