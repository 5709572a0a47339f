//go:build interop

package bfd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// birdSession is BIRD's line about its session: state and since when.
func birdSession(r *routertest.Router) (state, since string) {
	for line := range strings.Lines(r.Birdc("show bfd sessions")) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "10.9.0.1" {
			return fields[2], fields[3]
		}
	}
	return "", ""
}

// A process that ends after Rest and one that goes on with Resume are one session to the peer, which notices nothing for
// many detection times; and what happens to the path afterwards is noticed as fast as ever.
func TestRest(t *testing.T) {
	peers := map[string]func(*routertest.Router) func() string{
		"BIRD": func(r *routertest.Router) func() string {
			r.StartBIRD("router id 10.9.0.2;\nprotocol device {}\nprotocol bfd { interface \"r1\" { interval 100 ms; }; neighbor 10.9.0.1 dev \"r1\"; }\n")
			return func() string { state, since := birdSession(r); return state + " since " + since }
		},
		"FRR": func(r *routertest.Router) func() string {
			r.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval 100\n  transmit-interval 100\n")
			return func() string {
				p := frrPeers(r)["10.9.0.1"]
				return fmt.Sprintf("%s after %d times down", p.Status, p.SessionDown)
			}
		},
	}
	for name, start := range peers {
		t.Run(name, func(t *testing.T) {
			router := routertest.NewRouter(t, name)
			router.Link("r1", addresses)
			look := start(router)
			s := Session{Peer: netip.MustParseAddr("10.9.0.2"), Local: netip.MustParseAddr("10.9.0.1"), Profile: milliseconds(100)}
			first := newRoom(t)
			first.Apply([]Session{s})
			untilUp(t, first)
			routertest.Until(t, 5*time.Second, func() string {
				if state := look(); !strings.HasPrefix(strings.ToLower(state), "up") {
					return state
				}
				return ""
			})
			before := look()
			began := time.Now()
			held := first.Rest(t.Context(), 30*time.Second)
			t.Logf("agreed after %s: %+v", time.Since(began).Round(time.Millisecond), held)
			still := func(limit time.Duration) {
				t.Helper()
				for end := time.Now().Add(limit); time.Now().Before(end); {
					if now := look(); now != before {
						t.Fatalf("%s noticed: %s, before %s", name, now, before)
					}
				}
			}
			still(2 * time.Second)
			text, err := json.Marshal(held) // as on the way to another process
			if err != nil {
				t.Fatal(err)
			}
			held = nil
			if err := json.Unmarshal(text, &held); err != nil || len(held) != 1 {
				t.Fatalf("%d sessions are held, %v", len(held), err)
			}
			second := newRoom(t)
			second.Resume(held)
			second.Apply([]Session{s})
			steady(t, second, 2*time.Second)
			if r := second.Report()[0]; r.State != Up || r.Transmit > 300*time.Millisecond || r.Received == 0 {
				t.Errorf("%+v", r)
			}
			still(time.Millisecond)
			router.Run("ip", "link", "set", "r1", "down")
			untilDown(t, second, DetectionTimeExpired)
			routertest.Until(t, 2*time.Second, func() string {
				if now := look(); strings.HasPrefix(strings.ToLower(now), "up") {
					return now
				}
				return ""
			})
		})
	}
}

// A peer that has begun anew while nobody was here is met again without a failure being reported.
func TestResumeWithAnotherPeer(t *testing.T) {
	router := routertest.NewRouter(t, "bird")
	router.Link("r1", addresses)
	config := "router id 10.9.0.2;\nprotocol device {}\nprotocol bfd { interface \"r1\" { interval 100 ms; }; neighbor 10.9.0.1 dev \"r1\"; }\n"
	router.StartBIRD(config)
	s := Session{Peer: netip.MustParseAddr("10.9.0.2"), Local: netip.MustParseAddr("10.9.0.1"), Profile: milliseconds(100)}
	first := newRoom(t)
	first.Apply([]Session{s})
	untilUp(t, first)
	routertest.Until(t, 5*time.Second, func() string { state, _ := birdSession(router); return strings.TrimPrefix(state, "Up") })
	held := first.Rest(t.Context(), 30*time.Second)
	if len(held) != 1 {
		t.Fatalf("%d sessions are held", len(held))
	}
	router.Birdc("restart all")
	second := newRoom(t)
	second.Resume(held)
	second.Apply([]Session{s})
	routertest.Until(t, 15*time.Second, func() string {
		r := second.Report()[0]
		if r.Broken() {
			t.Fatalf("reported as broken: %+v", r)
		}
		if state, _ := birdSession(router); state != "Up" || r.State != Up || r.Transmit > 300*time.Millisecond {
			return fmt.Sprintf("BIRD has %q; %+v", state, r)
		}
		return ""
	})
}
