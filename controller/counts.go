package main

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// countsEvery is how often a pool is written at most while nothing changes but its numbers: in a storm of new Services
// each pass finds others, and a write of a pool costs the API server as much as an address does.
const countsEvery = time.Second

// counts is when each pool was written last, by name.
type counts map[string]time.Time

// hold returns the changes to write now, and how long until those that can wait are due; zero if there are none.
func (c counts) hold(changes []poolChange, now time.Time) (due []poolChange, wait time.Duration) {
	maps.DeleteFunc(c, func(_ string, at time.Time) bool { return now.Sub(at) >= countsEvery || at.After(now) })
	for _, change := range changes {
		at, recent := c[change.pool.Name]
		if !recent || change.protect || !change.numbers {
			due = append(due, change)
			continue
		}
		if left := countsEvery - now.Sub(at); wait == 0 || left < wait {
			wait = left
		}
	}
	return due, wait
}

// onlyNumbers tells whether a pool's status says the same but for numbers and names: how many addresses are given, and to
// whom. A verdict, its reason, or what generation it is about is more than that.
func onlyNumbers(have, want v1beta1.IPAddressPoolStatus) bool {
	return slices.EqualFunc(have.Conditions, want.Conditions, func(a, b metav1.Condition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.ObservedGeneration == b.ObservedGeneration
	})
}
