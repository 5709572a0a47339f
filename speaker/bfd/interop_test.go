//go:build interop

package bfd

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

	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

func TestMain(m *testing.M) { os.Exit(routertest.Main(m)) }

const addresses = "10.9.0.1/24 10.9.0.2/24"

func newRoom(t testing.TB) *Room {
	room := New(context.Background(), slog.New(slog.DiscardHandler))
	t.Cleanup(room.Close)
	return room
}

func milliseconds(n int) Profile {
	d := time.Duration(n) * time.Millisecond
	return Profile{Receive: d, Transmit: d}
}

func untilUp(t testing.TB, room *Room) time.Duration {
	t.Helper()
	return routertest.Until(t, 15*time.Second, func() string {
		for _, r := range room.Report() {
			if r.State != Up {
				return r.Reason()
			}
		}
		return ""
	})
}

// frrPeer is what FRR says about its session with us.
type frrPeer struct {
	Peer        string `json:"peer"`
	Status      string `json:"status"`
	Diagnostic  string `json:"diagnostic"`
	RemoteDiag  string `json:"remote-diagnostic"`
	RxInterval  int    `json:"remote-receive-interval"`
	TxInterval  int    `json:"remote-transmit-interval"`
	Multiplier  int    `json:"remote-detect-multiplier"`
	SessionDown int    `json:"session-down"`
}

func frrPeers(r *routertest.Router) map[string]frrPeer {
	var list []frrPeer
	peers := map[string]frrPeer{}
	text := r.Vtysh("show bfd peers json")
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return peers
	}
	var counters []frrPeer
	json.Unmarshal([]byte(r.Vtysh("show bfd peers counters json")), &counters)
	for i, p := range list {
		if i < len(counters) {
			p.SessionDown = counters[i].SessionDown
		}
		peers[p.Peer] = p
	}
	return peers
}

func untilFRR(t testing.TB, r *routertest.Router, peer, status string) frrPeer {
	t.Helper()
	var last frrPeer
	routertest.Until(t, 15*time.Second, func() string {
		if last = frrPeers(r)[peer]; last.Status != status {
			return fmt.Sprintf("FRR has %s as %q, want %q", peer, last.Status, status)
		}
		return ""
	})
	return last
}

func TestFRR(t *testing.T) {
	tests := []struct {
		name, config, seenAs string
		session              Session
	}{
		{"IPv4", "bfd\n peer 10.9.0.1 interface r1\n  receive-interval 300\n  transmit-interval 300\n",
			"10.9.0.1", Session{Peer: netip.MustParseAddr("10.9.0.2")}},
		{"IPv6", "bfd\n peer fd09::1 local-address fd09::2 interface r1\n  receive-interval 300\n  transmit-interval 300\n",
			"fd09::1", Session{Peer: netip.MustParseAddr("fd09::2")}},
		{"link-local", "bfd\n peer fe80::9:1 local-address fe80::9:2 interface r1\n  receive-interval 300\n  transmit-interval 300\n",
			"fe80::9:1", Session{Peer: netip.MustParseAddr("fe80::9:2%r1"), Local: netip.MustParseAddr("fe80::9:1%r1"), Interface: "r1"}},
		{"multihop", "bfd\n peer 10.9.0.1 multihop local-address 10.9.0.2\n  receive-interval 300\n  transmit-interval 300\n",
			"10.9.0.1", Session{Peer: netip.MustParseAddr("10.9.0.2"), Local: netip.MustParseAddr("10.9.0.1"), Multihop: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			router := routertest.NewRouter(t, "frr")
			router.Link("r1", addresses, "fd09::1/64 fd09::2/64", "fe80::9:1/64 fe80::9:2/64")
			router.StartFRR(test.config)
			room := newRoom(t)
			test.session.Profile = milliseconds(300)
			room.Apply([]Session{test.session})
			took := untilUp(t, room)
			untilFRR(t, router, test.seenAs, "up")
			got := routertest.Until(t, 5*time.Second, func() string {
				p := frrPeers(router)[test.seenAs]
				if p.RxInterval != 300 || p.TxInterval != 300 || p.Multiplier != 3 {
					return fmt.Sprintf("FRR negotiated %+v, want 300 ms, 300 ms, 3", p)
				}
				return ""
			})
			steady(t, room, 3*time.Second)
			if p := frrPeers(router)[test.seenAs]; p.SessionDown != 0 {
				t.Errorf("FRR counts %d downs, want 0", p.SessionDown)
			}
			t.Logf("up after %s, negotiated %s later, no down in 3 s of 300 ms x 3", took, got)
		})
	}
}

func TestBIRD(t *testing.T) {
	for name, multihop := range map[string]bool{"single hop": false, "multihop": true} {
		t.Run(name, func(t *testing.T) {
			router := routertest.NewRouter(t, "bird")
			router.Link("r1", addresses)
			neighbor := `neighbor 10.9.0.1 dev "r1";`
			kind := "interface"
			if multihop {
				neighbor, kind = "neighbor 10.9.0.1 local 10.9.0.2 multihop;", "multihop"
			}
			if multihop {
				router.StartBIRD("router id 10.9.0.2;\nprotocol device {}\nprotocol bfd { multihop { interval 300 ms; }; " + neighbor + " }\n")
			} else {
				router.StartBIRD("router id 10.9.0.2;\nprotocol device {}\nprotocol bfd { " + kind + " \"r1\" { interval 300 ms; }; " + neighbor + " }\n")
			}
			room := newRoom(t)
			s := Session{Peer: netip.MustParseAddr("10.9.0.2"), Local: netip.MustParseAddr("10.9.0.1"), Multihop: multihop, Profile: milliseconds(300)}
			room.Apply([]Session{s})
			if multihop { // BIRD sends these with TTL 64: the reason says so, and the profile allows it
				untilRefused(t, room, "BFD Down: packets refused: packet with TTL 64, want at least 254")
				s.Profile.MinimumTTL = 64
				room.Apply([]Session{s})
			}
			took := untilUp(t, room)
			router.Until(5*time.Second, func() string {
				out := router.Birdc("show bfd sessions")
				if !strings.Contains(out, "Up") || !strings.Contains(out, "0.900") {
					return out
				}
				return ""
			})
			steady(t, room, 3*time.Second)
			t.Logf("up after %s, no down in 3 s of 300 ms x 3", took)
		})
	}
}

func untilRefused(t testing.TB, room *Room, want string) {
	t.Helper()
	routertest.Until(t, 5*time.Second, func() string {
		if got := room.Report()[0].Reason(); got != want {
			return got
		}
		return ""
	})
}

// steady fails the test if a session leaves Up before the time is over.
func steady(t testing.TB, room *Room, length time.Duration) {
	t.Helper()
	over := time.After(length)
	for {
		select {
		case <-room.Bell():
			for _, r := range room.Report() {
				if r.State != Up || r.Downs != 0 {
					t.Fatalf("left Up: %s (%d downs): %s", r.State, r.Downs, r.LastDown)
				}
			}
		case <-over:
			return
		}
	}
}

// What happens when the link is cut, the peer is switched off, and when we end.
func TestDown(t *testing.T) {
	router := routertest.NewRouter(t, "frr")
	router.Link("r1", addresses)
	router.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval 100\n  transmit-interval 100\n")
	room := newRoom(t)
	session := Session{Peer: netip.MustParseAddr("10.9.0.2"), Profile: milliseconds(100)}
	room.Apply([]Session{session})
	untilUp(t, room)
	untilFRR(t, router, "10.9.0.1", "up")

	router.Configure("bfd\n peer 10.9.0.1 interface r1\n  shutdown\n")
	untilDown(t, room, NeighborSignaledDown)
	router.Configure("bfd\n peer 10.9.0.1 interface r1\n  no shutdown\n")
	untilUp(t, room)

	start := time.Now()
	router.Run("nft", "add table inet cut; add chain inet cut out { type filter hook output priority 0; policy drop; }")
	untilDown(t, room, DetectionTimeExpired)
	t.Logf("down %s after the peer fell silent (100 ms x 3)", time.Since(start).Round(time.Millisecond))
	router.Run("nft", "delete table inet cut")
	untilUp(t, room)
	untilFRR(t, router, "10.9.0.1", "up")

	session.AdminDown = true
	room.Apply([]Session{session})
	if p := untilFRR(t, router, "10.9.0.1", "down"); p.Diagnostic != "neighbor signaled session down" {
		t.Errorf("FRR's diagnostic is %q", p.Diagnostic)
	}
	session.AdminDown = false
	room.Apply([]Session{session})
	untilUp(t, room)
	room.Close()
	if p := untilFRR(t, router, "10.9.0.1", "down"); p.Diagnostic != "neighbor signaled session down" {
		t.Errorf("FRR's diagnostic after Close is %q", p.Diagnostic)
	}
}

func untilDown(t testing.TB, room *Room, diag Diag) {
	t.Helper()
	routertest.Until(t, 10*time.Second, func() string {
		if r := room.Report()[0]; r.State == Up || r.Diag != diag {
			return fmt.Sprintf("state %s, diagnostic %s, want %s", r.State, r.Diag, diag)
		}
		return ""
	})
}

// A profile changed while the session is Up is negotiated without leaving Up.
func TestProfileChange(t *testing.T) {
	router := routertest.NewRouter(t, "frr")
	router.Link("r1", addresses)
	router.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval 100\n  transmit-interval 100\n")
	room := newRoom(t)
	s := Session{Peer: netip.MustParseAddr("10.9.0.2"), Profile: milliseconds(300)}
	room.Apply([]Session{s})
	untilUp(t, room)
	for _, ms := range []int{100, 400, 200} {
		s.Profile = milliseconds(ms)
		room.Apply([]Session{s})
		router.Until(5*time.Second, func() string {
			if p := frrPeers(router)["10.9.0.1"]; p.RxInterval != ms || p.TxInterval != ms {
				return fmt.Sprintf("FRR has %+v, want %d ms", p, ms)
			}
			return ""
		})
	}
	if r := room.Report()[0]; r.Downs != 0 || r.State != Up {
		t.Errorf("%s with %d downs, want Up with 0", r.State, r.Downs)
	}
	s.Profile = milliseconds(20)
	if got := room.Apply([]Session{s})[0].Problem; got != "interval 20ms is not between 50ms and 1m" {
		t.Errorf("problem %q", got)
	}
}

// A packet that crossed a router is not the neighbour's (RFC 5881 §5).
func TestTTLIsChecked(t *testing.T) {
	router := routertest.NewRouter(t, "forger")
	router.Link("r1", addresses)
	room := newRoom(t)
	room.Apply([]Session{{Peer: netip.MustParseAddr("10.9.0.2"), Profile: milliseconds(300)}})
	router.Run("python3", "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 254)
s.sendto(bytes([0x20,0x40,3,24, 0,0,0,1, 0,0,0,0, 0,15,66,64, 0,15,66,64, 0,0,0,0]), ("10.9.0.1", 3784))
s.sendto(b"garbage", ("10.9.0.1", 3784))
`)
	routertest.Until(t, 5*time.Second, func() string {
		if r := room.Report()[0]; r.Refused != 2 || r.State != Down {
			return fmt.Sprintf("%s, %d packets refused, want Down, 2", r.State, r.Refused)
		}
		return ""
	})
}

// Close does not wait for ever while packets come in.
func TestCloseUnderPackets(t *testing.T) {
	router := routertest.NewRouter(t, "flood")
	router.Link("r1", addresses)
	router.Start("python3", "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
while True:
    try: s.sendto(bytes([0x20,0x40,3,24, 0,0,0,1, 0,0,0,0, 0,15,66,64, 0,15,66,64, 0,0,0,0]), ("10.9.0.1", 3784))
    except OSError: pass
`)
	room := newRoom(t)
	for range 50 {
		room.Apply([]Session{{Peer: netip.MustParseAddr("10.9.0.2")}})
		routertest.Until(t, 5*time.Second, func() string {
			if room.Report()[0].Received == 0 {
				return "nothing received"
			}
			return ""
		})
		done := make(chan struct{})
		go func() { defer close(done); room.Close() }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("Close hangs")
		}
	}
}
