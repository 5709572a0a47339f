package main

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// deaf is a client of an API server that serves no lists but those that are not asked of it.
type deaf struct{ client.Reader }

func (deaf) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	return &meta.NoKindMatchError{GroupKind: v1beta1.GroupVersion.WithKind(kindOf(list)).GroupKind()}
}

// TestMissingKinds is about an upgrade whose CRDs were not applied: what is missing is not read, what is there is.
func TestMissingKinds(t *testing.T) {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "Community"} {
		mapper.Add(v1beta1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	var k kinds
	if err := k.ask(mapper); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"BFDProfile", "BGPPeer"}, k.lacking()); diff != "" {
		t.Errorf("missing kinds (-want +got):\n%s", diff)
	}
	r := &reader{client: deaf{}, kinds: &k}
	if err := r.listAll(t.Context(), &v1beta1.BGPPeerList{}, &v1beta1.BFDProfileList{}); err != nil {
		t.Errorf("a kind that is not served was asked for: %v", err)
	}
	if err := r.listAll(t.Context(), &v1beta1.CommunityList{}); err == nil {
		t.Error("a kind that is served was not asked for")
	}
	status := report(reached{missing: k.lacking()})
	if len(status.Problems) != 2 || !strings.Contains(status.Problems[0].Message, "kubectl apply") {
		t.Errorf("the status does not say what to do: %+v", status.Problems)
	}
}
