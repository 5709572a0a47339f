//go:build interop

package bgp_test

import (
	"fmt"
	"testing"
	"time"

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
