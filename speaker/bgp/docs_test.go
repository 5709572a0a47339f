//go:build interop

package bgp_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// The configurations that the manual shows make a session with BFD and both families,
// and spread what several nodes announce. The second node is another address of ours.
func TestManual(t *testing.T) {
	tests := []struct {
		name, address string
		asn           uint32
		start         func(*routertest.Router, string)
	}{
		{"frr", "172.30.0.1", 64513, (*routertest.Router).StartFRR},
		{"bird", "172.30.0.2", 64514, (*routertest.Router).StartBIRD},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config, err := os.ReadFile("../../docs/routers/" + test.name + ".conf")
			if err != nil {
				t.Fatal(err)
			}
			router := routertest.NewRouter(t, test.name)
			router.Link("r1", "172.30.0.11/24 "+test.address+"/24", "fd30::11/64 fd30::1/64")
			routertest.Node(t, "ip", "addr", "add", "172.30.0.12/24", "dev", "r1")
			test.start(router, string(config))
			room, wish := newRoom(t), bgp.Wish{Routes: map[string][]bgp.Route{}}
			for _, source := range []string{"172.30.0.11", "172.30.0.12"} {
				wish.Peers = append(wish.Peers, bgp.Peer{
					Key: source, Source: addr(source), RouterID: addr(source), Address: addr(test.address),
					LocalASN: 64512, PeerASN: test.asn, Families: []bgp.Family{bgp.IPv4, bgp.IPv6},
					ConnectRetry: time.Second, GracefulRestart: time.Minute,
				})
				wish.Routes[source] = []bgp.Route{
					{Prefix: prefix("172.30.0.200/32")}, {Prefix: prefix("172.30.0.224/27")},
					{Prefix: prefix("fd30::200/128")}, {Prefix: prefix("192.0.2.1/32")},
				}
			}
			if _, err := room.Apply(t.Context(), wish); err != nil {
				t.Fatal(err)
			}
			untilEstablished(t, room)
			router.Until(10*time.Second, func() string {
				all := router.Run("ip", "-4", "route", "show", "172.30.0.200")
				if strings.Count(all, "nexthop via 172.30.0.1") != 2 {
					return fmt.Sprintf("the router does not use both nodes: %s", all)
				}
				return ""
			})
			kernel(t, router, "fd30::200", "fd30::11")
			if got := router.Run("ip", "-4", "route", "show", "192.0.2.1"); got != "" {
				t.Errorf("the router takes what is not in the pool: %s", got)
			}
			paths := bfd.New(t.Context(), newLog(t))
			defer paths.Close()
			var sessions []bfd.Session
			for _, p := range room.Report().Peers {
				if !p.GracefulRestart || len(p.Families) != 2 {
					t.Errorf("negotiated %+v", p)
				}
				sessions = append(sessions, bfd.Session{Peer: p.Address, Local: p.Local})
			}
			paths.Apply(sessions)
			routertest.Until(t, 10*time.Second, func() string {
				for _, r := range paths.Report() {
					if why := r.Reason(); why != "" {
						return why
					}
				}
				return ""
			})
			for _, p := range room.Report().Peers {
				if p.Established != 1 {
					t.Errorf("%s came up %d times: %s", p.Key, p.Established, p.LastError)
				}
			}
		})
	}
}
