package main

import (
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// TestNewsCanWait gives one address among much news, a second later none: then everything is written.
func TestNewsCanWait(t *testing.T) {
	address := serviceChange{ingress: &[]netip.Addr{netip.MustParseAddr("10.0.0.1")}, set: conditions(v1beta1.ConditionAllocated, v1beta1.ConditionAnnounced)}
	refusal := serviceChange{set: conditions(v1beta1.ConditionAllocated)}
	told := serviceChange{set: conditions(v1beta1.ConditionAnnounced)}
	untold := serviceChange{drop: []string{v1beta1.ConditionAnnounced}}
	var changes []serviceChange
	for range 100 {
		changes = append(changes, told, untold)
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
		{"an address and a refusal", time.Second, append(changes, address, refusal), 2 + newsBurst, 200 - newsBurst},
		{"in the same second", 1400 * time.Millisecond, changes, 2, 198},
		{"a little news in a storm", 1800 * time.Millisecond, changes[:2], 2, 0},
		{"calm again", 2 * time.Second, changes, 200, 0},
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
