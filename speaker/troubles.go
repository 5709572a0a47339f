package main

import (
	"cmp"
	"slices"

	"github.com/fairlead/fairlead/speaker/forward"
)

// troubles are what is not, or not fully, forwarded. They may be thousands, of which most stay: a cluster may have as many
// Services without endpoints.
type troubles struct {
	of      map[string][]forward.Reason // by Service
	sorted  []problem                   // as they were when they were last listed
	touched []string                    // Services whose troubles changed since
}

func newTroubles() *troubles { return &troubles{of: map[string][]forward.Reason{}} }

// set replaces the troubles of a Service.
func (t *troubles) set(key string, reasons []forward.Reason) {
	if slices.Equal(t.of[key], reasons) {
		return
	}
	t.touched = append(t.touched, key)
	delete(t.of, key)
	if len(reasons) > 0 {
		t.of[key] = reasons
	}
}

// list returns all, sorted, each once. The result is never changed.
func (t *troubles) list() []problem {
	const many = 32 // to sort all costs as much as that many changes for every so many problems
	switch {
	case len(t.touched) == 0:
	case len(t.touched) > len(t.sorted)/many:
		t.sorted = nil
		for key := range t.of {
			t.sorted = append(t.sorted, t.problems(key)...)
		}
		slices.SortFunc(t.sorted, compareProblems)
	default:
		t.sorted = slices.Clone(t.sorted)
		for _, key := range t.touched {
			t.replace(key)
		}
	}
	t.touched = nil
	return t.sorted
}

// replace puts the problems of one Service where they belong.
func (t *troubles) replace(key string) {
	object := "service/" + key
	byObject := func(p problem, object string) int { return cmp.Compare(p.Object, object) }
	from, _ := slices.BinarySearchFunc(t.sorted, object, byObject)
	to := from
	for to < len(t.sorted) && t.sorted[to].Object == object {
		to++
	}
	t.sorted = slices.Replace(t.sorted, from, to, t.problems(key)...)
}

// problems returns what is to be said of one Service, sorted, each once.
func (t *troubles) problems(key string) []problem {
	var found []problem
	for _, reason := range t.of[key] {
		found = append(found, problem{"service/" + key, reason.Code, reason.Message})
	}
	slices.SortFunc(found, compareProblems)
	return slices.Compact(found)
}
