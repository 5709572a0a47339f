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
