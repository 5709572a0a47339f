package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/speaker/forward"
)

// TestTroubles changes the troubles of Services at random: the list is the same however it came about, and what was
// listed once does not change any more.
func TestTroubles(t *testing.T) {
	reasons := rapid.SampledFrom([]forward.Reason{{Code: "B", Message: "1"}, {Code: "A", Message: "2"}, {Code: "A", Message: "1"}})
	rapid.Check(t, func(t *rapid.T) {
		troubles, last, copied := newTroubles(), []problem(nil), []problem(nil)
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.SampledFrom([]int{1, 2, 100}).Draw(t, "changes") {
				troubles.set(fmt.Sprint("shop/s", rapid.IntRange(0, 199).Draw(t, "Service")), rapid.SliceOfN(reasons, 0, 3).Draw(t, "reasons"))
			}
			anew := newTroubles()
			for key, of := range troubles.of {
				anew.set(key, of)
			}
			list := troubles.list()
			if diff := cmp.Diff(anew.list(), list, cmpopts.EquateEmpty(), cmp.AllowUnexported(problem{})); diff != "" {
				t.Fatalf("the list (-want +got):\n%s", diff)
			}
			if !slices.IsSortedFunc(list, compareProblems) || !slices.Equal(last, copied) {
				t.Fatalf("not sorted: %v; or the list of before changed from %v to %v", list, copied, last)
			}
			last, copied = list, slices.Clone(list)
		}
	})
}
