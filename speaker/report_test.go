package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// What nobody can announce is told with this node's own reason, and never crowds out anything else.
func TestReportNobody(t *testing.T) {
	w := crowdedWorld(150, netip.MustParsePrefix("192.0.2.0/24"))
	verdicts := Decide(w)
	a := &announceState{Nobody: nobodyProblems(verdicts)}
	own := problem{"speaker/node1", v1beta1.ReasonKernelSetting, "a setting"}
	status := report(reached{announce: a, forward: &forwardState{Problems: []problem{own}}})

	if status.Counts.Problems != 151 || len(status.Problems) != mostProblems {
		t.Errorf("%d problems, %d of them listed, want 151 and %d", status.Counts.Problems, len(status.Problems), mostProblems)
	}
	first, last := status.Problems[0], status.Problems[len(status.Problems)-1]
	want := v1beta1.SpeakerProblem{Object: "service/default/s00000", Reason: v1beta1.ReasonNoInterface, Message: "10.200.0.1: no interface of this node is " +
		"in a subnet that holds it: name interfaces in an L2Advertisement, or give the node an address in that subnet"}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("the first problem (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v1beta1.SpeakerProblem(own), last); diff != "" {
		t.Errorf("the last problem (-want +got):\n%s", diff)
	}
}

// What a node announces, or another one does, is nobody's problem.
func TestReportNobodyElse(t *testing.T) {
	w := crowdedWorld(10, netip.MustParsePrefix("10.200.0.0/16"))
	w.Members[0].Meta.Links = nil // of this node
	if have := nobodyProblems(Decide(w)); len(have) > 0 {
		t.Errorf("problems of addresses that other nodes announce: %v", have)
	}
	w.Members[1].Life, w.Members[2].Life = Dead, Left
	have := nobodyProblems(Decide(w))
	if len(have) != 10 || have[0].Reason != v1beta1.ReasonNoInterface {
		t.Errorf("problems when the others are gone: %v, want ten: this node has no interface", fmt.Sprint(have))
	}
}
