package main

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// TestMissingKinds is about an upgrade whose CRDs were not applied.
func TestMissingKinds(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"IPAddressPool", "L2Advertisement", "Speaker", "BGPAdvertisement", "Community"} {
		mapper.Add(v1beta1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	err := knowsOurKinds(mapper, scheme)
	if err == nil || !strings.Contains(err.Error(), "does not know BFDProfile, BGPPeer:") {
		t.Errorf("want an error that names BFDProfile and BGPPeer, have %v", err)
	}
	for _, kind := range []string{"BFDProfile", "BGPPeer"} {
		mapper.Add(v1beta1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	if err := knowsOurKinds(mapper, scheme); err != nil {
		t.Errorf("all kinds are served: %v", err)
	}
}
