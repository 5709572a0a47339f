package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestPlannedMove cordons the owner's node and takes it into service again, drains it, and restarts its speaker, while a
// client opens 200 connections a second and keeps others open: none is refused, reset or lost. On a busy machine
// an attempt may take longer than 300 ms, so that only with -long none may fail at all.
func TestPlannedMove(t *testing.T) {
	runs := "1"
	if *long {
		runs = "10"
	}
	for _, cut := range []string{"cordon", "drain", "pod"} {
		for _, addr := range webAddresses(t) {
			t.Run(cut+" "+addr.String(), func(t *testing.T) {
				settled(t)
				out := lab(t, "failover", "--address", addr.String(), "--cut", cut, "--runs", runs, "--rate", "200", "--kept", "20", "--json")
				var got struct {
					Runs []struct {
						Host   string
						Owners []string
						Errors map[string]int
					}
					Failed, Lost int
					Load         string
				}
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Fatalf("read the figures: %v\n%s", err, out)
				}
				t.Logf("%s: %d failed, %d lost, load %s, %+v", cut, got.Failed, got.Lost, got.Load, got.Runs)
				if got.Lost > 0 || *long && got.Failed > 0 {
					t.Errorf("%d new connections failed, and %d open ones were lost", got.Failed, got.Lost)
				}
				for _, run := range got.Runs {
					if len(run.Owners) < 2 {
						t.Errorf("the address stayed at %v", run.Owners)
					}
					for why, n := range run.Errors {
						if strings.Contains(why, "refused") || strings.Contains(why, "reset") || strings.Contains(why, "EOF") {
							t.Errorf("%d attempts: %s", n, why)
						}
					}
				}
			})
		}
	}
}
