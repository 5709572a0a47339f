//go:build interop

package bgp_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

func many(n int) []bgp.Route {
	var routes []bgp.Route
	for i := range n {
		routes = append(routes, bgp.Route{Prefix: prefix(fmt.Sprintf("198.18.%d.%d/32", i/256, i%256))})
	}
	return routes
}

// 10,000 prefixes from a cold start to the router's kernel, and gone again.
func TestManyPrefixes(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 100
	}
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	before := heap()
	handed := time.Now()
	apply(t, room, peer, many(n)...)
	untilEstablished(t, room)
	up := time.Now()
	inKernel := func(want int) time.Duration {
		return router.Until(60*time.Second, func() string {
			if got := strings.Count(router.Run("ip", "-4", "route", "show", "proto", "bgp"), "\n"); got != want {
				return fmt.Sprintf("%d routes in the kernel, want %d", got, want)
			}
			return ""
		})
	}
	inKernel(n)
	took := time.Since(up)
	grown := int64(heap()) - int64(before)
	apply(t, room, peer)
	gone := inKernel(0)
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%d prefixes: session up %s after the wish, in FRR's kernel %s later, withdrawn in %s; heap %+d KiB, load %s",
		n, up.Sub(handed).Round(time.Millisecond), took.Round(time.Millisecond), gone.Round(time.Millisecond), grown>>10, load[:14])
}

// Memory for 10,000 prefixes at four peers.
func TestMemory(t *testing.T) {
	needsRoot(t)
	room := newRoom(t)
	wish := bgp.Wish{Routes: map[string][]bgp.Route{}}
	routes := many(10_000)
	for i := range 4 {
		p := hostile(t, swallow)
		p.Key = fmt.Sprint(i)
		wish.Peers = append(wish.Peers, p)
		wish.Routes[p.Key] = routes
	}
	before := heap()
	if _, err := room.Apply(t.Context(), wish); err != nil {
		t.Fatal(err)
	}
	routertest.Until(t, 60*time.Second, func() string {
		for _, p := range room.Report().Peers {
			if p.Updates < 13 { // about 800 prefixes with the same attributes fit into one
				return fmt.Sprintf("%s: %d UPDATEs %q", p.State, p.Updates, p.LastError)
			}
		}
		return ""
	})
	t.Logf("10,000 prefixes at 4 peers: heap %+d KiB", (int64(heap())-int64(before))>>10)
}

// A new route's way into BIRD's kernel table.
func TestLatency(t *testing.T) {
	router := routertest.NewRouter(t, "bird")
	router.Link("r1", links...)
	router.StartBIRD(birdBase + "protocol bgp node { local 10.9.0.2 as 64513; neighbor 10.9.0.1 as 64512; ipv4 { import all; export none; }; }\n")
	room, peer := newRoom(t), basic()
	apply(t, room, peer)
	untilEstablished(t, room)
	monitor := router.Monitor()
	var added, removed []time.Duration
	for i, r := range many(30) {
		start := time.Now()
		apply(t, room, peer, r)
		wait := func(events int) time.Duration {
			for strings.Count(monitor(), "\n") < events {
				if time.Since(start) > 10*time.Second {
					t.Fatal("no event")
				}
			}
			return time.Since(start)
		}
		added = append(added, wait(2*i+1))
		start = time.Now()
		apply(t, room, peer)
		removed = append(removed, wait(2*i+2))
	}
	slices.Sort(added)
	slices.Sort(removed)
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("wish to BIRD's kernel: announced p50 %s, max %s; withdrawn p50 %s, max %s; load %s",
		added[15], added[29], removed[15], removed[29], load[:14])
	if added[15] > 20*time.Millisecond || removed[15] > 20*time.Millisecond {
		t.Error("more than 20 ms")
	}
}
