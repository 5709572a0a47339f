package main

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/speaker/forward"
	"github.com/fairlead/fairlead/speaker/nft"
)

// A pod is told that the API server is at the ClusterIP of the Service
// kubernetes, unless it is told otherwise. That must not keep the Service from being forwarded.
func TestTheServiceKubernetesIsForwarded(t *testing.T) {
	own := &corev1.Service{}
	own.Namespace, own.Name = "default", "kubernetes"
	own.Spec.ClusterIP, own.Spec.ClusterIPs = "10.96.0.1", []string{"10.96.0.1", "fd96::1"}
	own.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443}}
	told := apiServerSocket(func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}[name]
	})
	machine := netip.MustParseAddrPort("172.30.0.10:6443")
	protected := withoutClusterIPs(append(told, machine), own)
	if diff := cmp.Diff([]netip.AddrPort{machine}, protected, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("protected (-want +got):\n%s", diff)
	}
	result := forward.Service(own, nil, forward.Node{Name: "node1", Protected: protected}, nft.Random)
	if len(result.Wish.Frontends) != 2 {
		t.Errorf("the Service wishes %s\n%v", result.Wish, result.Reasons)
	}
}
