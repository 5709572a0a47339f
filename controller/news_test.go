package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// TestNewsCanWait gives many addresses among much news, and none a second later: then everything is written. A few addresses
// keep no news back.
func TestNewsCanWait(t *testing.T) {
	address := serviceChange{ingress: &[]netip.Addr{netip.MustParseAddr("10.0.0.1")}, set: conditions(v1beta1.ConditionAllocated, v1beta1.ConditionAnnounced)}
	refusal := serviceChange{set: conditions(v1beta1.ConditionAllocated)}
	told := serviceChange{set: conditions(v1beta1.ConditionAnnounced)}
	untold := serviceChange{drop: []string{v1beta1.ConditionAnnounced}}
	var changes []serviceChange
	for range 100 {
		changes = append(changes, told, untold)
	}
	var storm []serviceChange
	for range stormBurst {
		storm = append(storm, address, refusal)
	}
	n, start := newNews(), time.Unix(1e9, 0)
	steps := []struct {
		name    string
		after   time.Duration
		changes []serviceChange
		due     int
		held    int
	}{
		{"nobody waits", 0, changes, 200, 0},
		{"an address and a refusal", time.Second, slices.Concat(changes, []serviceChange{address, refusal}), 202, 0},
		{"many", 10 * time.Second, slices.Concat(changes, storm), 2*stormBurst + newsBurst, 200 - newsBurst},
		{"half a second later", 10500 * time.Millisecond, changes, 0, 200},
		{"the storm goes on", 10900 * time.Millisecond, slices.Concat(changes, storm), 2 * stormBurst, 200},
		{"a little news in a storm", 11800 * time.Millisecond, changes[:1], 1, 0},
		{"calm again", 12 * time.Second, changes, 200, 0},
	}
	for _, step := range steps {
		due, held := n.hold(step.changes, start.Add(step.after))
		if len(due) != step.due || held != step.held {
			t.Errorf("%s: %d due and %d held, want %d and %d", step.name, len(due), held, step.due, step.held)
		}
	}
}

func conditions(kinds ...string) []metav1.Condition {
	var set []metav1.Condition
	for _, kind := range kinds {
		set = append(set, metav1.Condition{Type: kind})
	}
	return set
}
