//go:build interop

package bgp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/docs/routers"
	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// A peer that is removed and wished again, with other routes each time, is told them each time: nothing of the session before is left
// in the server that both used.
func TestPeerComesAndGoes(t *testing.T) {
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	for i := range 40 {
		r := v4()
		r.MED = bgp.Metric{Value: uint32(i + 1), Set: true}
		if i%2 == 0 {
			r.Prefix = prefix("192.0.2.8/29")
		}
		start := time.Now()
		apply(t, room, peer)
		apply(t, room, peer, r)
		routertest.Until(t, 15*time.Second, func() string {
			if p := room.Report().Peers[0]; p.State != bgp.Established {
				return fmt.Sprintf("round %d: %s %s (last error: %s)", i, p.State, p.Reason, p.LastError)
			}
			return ""
		})
		untilFRR(t, router, r.Prefix.String(), fmt.Sprintf(`via 10.9.0.1 aspath "64512" med %d`, i+1))
		if took := time.Since(start); took > 3*time.Second {
			t.Logf("round %d took %s", i, took.Round(time.Millisecond))
		}
		if _, err := room.Apply(t.Context(), bgp.Wish{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer whose settings change while its session is up is heard again at once, also by a router that meets the new
// connection while it has yet to read that the old session ended.
func TestSettingsChangeWhileUp(t *testing.T) {
	router := routertest.NewRouter(t, "frr")
	router.Link("r1", "172.30.0.11/24 172.30.0.1/24", "fd30::11/64 fd30::1/64")
	router.StartFRR(strings.Replace(routers.FRR, " neighbor fairlead timers", " neighbor fairlead password s3cret\n neighbor fairlead timers", 1))
	room, peer := newRoom(t), basic()
	peer.Address, peer.RouterID, peer.Password = addr("172.30.0.1"), addr("172.30.0.11"), "s3cret"
	peer.Families = []bgp.Family{bgp.IPv4, bgp.IPv6}
	for i := range 20 {
		peer.PeerASN = 64513
		apply(t, room, peer, v4(), v6())
		untilEstablished(t, room)
		peer.PeerASN = 64999
		router.Signal("bgpd", "STOP")
		apply(t, room, peer, v4(), v6())
		if i%2 == 0 {
			routertest.Until(t, 10*time.Second, func() string {
				if p := room.Report().Peers[0]; p.State != bgp.OpenSent {
					return fmt.Sprintf("round %d: %s: %s", i, p.State, p.Reason)
				}
				return ""
			})
		}
		router.Signal("bgpd", "CONT")
		untilError(t, room, "it is in AS 64513, not in AS 64999")
	}
}
