package main

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWanted(t *testing.T) {
	type verdict struct {
		Active          bool
		Reason, Message string
		Yields          bool
	}
	tests := map[string]struct {
		mode, other string
		traces      bool
		want        verdict
	}{
		"off":                {mode: "off", other: "Cilium", traces: true, want: verdict{Reason: "Off", Message: "forwarding is switched off by --forwarding=off"}},
		"on":                 {mode: "on", traces: true, want: verdict{Active: true, Reason: "On", Message: "forwarding is switched on by --forwarding=on"}},
		"on beside another":  {mode: "on", other: "Cilium", want: verdict{Active: true, Reason: "On", Message: "forwarding is switched on by --forwarding=on, although Cilium forwards on this node too"}},
		"auto, alone":        {mode: "auto", want: verdict{Active: true, Reason: "On", Message: "no other service proxy is at work on this node"}},
		"auto, another":      {mode: "auto", other: "Cilium", want: verdict{Reason: "OtherProxy", Message: "Cilium forwards on this node: Fairlead keeps off and takes over once it is gone"}},
		"auto, rules remain": {mode: "auto", traces: true, want: verdict{Active: true, Reason: "On", Yields: true, Message: "no other service proxy is at work on this node, but rules are left as kube-proxy makes them: 127.0.0.1:10249 is kept free, so that a kube-proxy that starts is noticed"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newForwarding()
			f.mode, f.status = test.mode, "127.0.0.1:10249"
			f.others = func(context.Context) string { return test.other }
			f.traces = func() bool { return test.traces }
			f.look(t.Context())
			var got verdict
			got.Active, got.Reason, got.Message = f.wanted()
			got.Yields = f.yields
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("wanted (-want +got):\n%s", diff)
			}
		})
	}
}
