package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPageInPieces writes a page at one size after the other: it must end as if both had been measured at once.
func TestPageInPieces(t *testing.T) {
	one := figures{services: 100, on: "2001-01-01", load: []string{"1.0", "2.0"}, apply: samples{1e-6}}
	other := figures{services: 1000, on: "2001-01-02", load: []string{"3.0", "4.0"}, apply: samples{2e-6}}
	whole := (&bench{everyMeasured: []figures{one, other}}).text()
	first := (&bench{everyMeasured: []figures{other}}).text()
	second := (&bench{everyMeasured: []figures{one}, before: readTables(first)}).text()
	if diff := cmp.Diff(whole, second); diff != "" {
		t.Errorf("page (-at once +in pieces):\n%s", diff)
	}
	if !strings.Contains(second, "| 2001-01-01, 1.0, 2.0 | 2001-01-02, 3.0, 4.0 |") {
		t.Errorf("the columns do not say when they were measured:\n%s", second)
	}
}
