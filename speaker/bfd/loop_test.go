//go:build interop

package bfd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// A peer that wants echoes gets them: it holds the path for broken when they no longer come back. One that must not count
// on them is told so.
func TestEcho(t *testing.T) {
	for name, forwards := range map[string]bool{"forwarding": true, "not forwarding": false} {
		t.Run(name, func(t *testing.T) {
			router := routertest.NewRouter(t, "frr")
			router.Link("r1", addresses)
			routertest.Node(t, "sysctl", "-w", "net.ipv4.ip_forward="+map[bool]string{true: "1", false: "0"}[forwards])
			router.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval 300\n  transmit-interval 300\n  echo transmit-interval 100\n  echo-mode\n")
			room := newRoom(t)
			room.Apply([]Session{{Peer: netip.MustParseAddr("10.9.0.2"), Profile: milliseconds(300)}})
			untilUp(t, room)
			want := map[bool]string{true: "Echo receive interval: 50ms", false: "Echo receive interval: disabled"}[forwards]
			router.Until(5*time.Second, func() string {
				if got := router.Vtysh("show bfd peers"); !strings.Contains(got[strings.Index(got, "Remote timers"):], want) {
					return got
				}
				return ""
			})
			steady(t, room, 2*time.Second)
			routertest.Node(t, "sysctl", "-w", "net.ipv4.ip_forward=0")
			if !forwards {
				return
			}
			routertest.Until(t, 5*time.Second, func() string {
				if r := room.Report()[0]; r.Downs == 0 || !strings.Contains(r.LastDown, "echo function failed") {
					return fmt.Sprintf("%+v", r)
				}
				return ""
			})
		})
	}
}

// Our own echo packets come back from FRR's kernel, which makes control packets rare, and a path is broken soon when they
// do not.
func TestEchoMode(t *testing.T) {
	for name, s := range map[string]Session{
		"IPv4": {Peer: netip.MustParseAddr("10.9.0.2"), Local: netip.MustParseAddr("10.9.0.1")},
		"IPv6": {Peer: netip.MustParseAddr("fd09::2"), Local: netip.MustParseAddr("fd09::1")},
	} {
		t.Run(name, func(t *testing.T) {
			router := routertest.NewRouter(t, "frr")
			router.Link("r1", addresses, "fd09::1/64 fd09::2/64")
			forwarding := func(on string) {
				router.Run("sysctl", "-w", "net.ipv4.ip_forward="+on, "net.ipv6.conf.all.forwarding="+on)
			}
			forwarding("1")
			router.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval 300\n  transmit-interval 300\n" +
				" peer fd09::1 local-address fd09::2 interface r1\n  receive-interval 300\n  transmit-interval 300\n")
			room := newRoom(t)
			s.Profile = milliseconds(300)
			s.Profile.EchoMode, s.Profile.Echo = true, 100*time.Millisecond
			room.Apply([]Session{s})
			untilUp(t, room)
			router.Until(5*time.Second, func() string {
				if p := frrPeers(router)[s.Local.String()]; p.RxInterval != 1000 {
					return fmt.Sprintf("FRR is asked for control packets every %d ms, want 1000", p.RxInterval)
				}
				return ""
			})
			steady(t, room, 3*time.Second)
			began := time.Now()
			forwarding("0")
			took := routertest.Until(t, 10*time.Second, func() string {
				if r := room.Report()[0]; r.Breaks == 0 || r.LastDown != "no echo came back for 300ms" {
					return fmt.Sprintf("%+v", r)
				}
				return ""
			})
			t.Logf("down %s after echoes stopped coming back, seen after %s", time.Since(began).Round(time.Millisecond), took)
		})
	}
}
