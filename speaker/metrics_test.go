package main

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/members"
)

// Every metric is named and described as Prometheus wants it.
func TestMetricsAreLintFree(t *testing.T) {
	f := &forwardState{Active: true, Services: 3, Endpoints: 7, Generation: 2, LastSync: noon}
	a := &announceState{
		Refused: []refused{{Reason: "Split"}},
		Wire:    []l2.LinkCounters{{Link: "eth0"}},
		Members: []members.Member{{Name: "node1"}},
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(func() reached { return reached{forward: f, announce: a} }))
	registry.MustRegister(newProgramming())
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	if count, err := testutil.GatherAndCount(registry); err != nil || count != 31 {
		t.Errorf("%d metrics, %v; want 31", count, err)
	}
}
