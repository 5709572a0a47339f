// Package forward translates one Kubernetes Service with its EndpointSlices
// into what the kernel must hold for it. All traffic policies live here.
//
// It is pure: no clock, no socket, no logger. It may use the value types of
// room nft. Out of scope: what two Services want of each other's addresses
// (nft decides contests), allocation, annotations (config reads them).
package forward

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// Node is what the translation needs to know about this node and its cluster.
type Node struct {
	// Name is the Kubernetes node name, Zone its label topology.kubernetes.io/zone ("" if none).
	Name, Zone string
	// Addresses are all addresses of this node.
	Addresses []netip.Addr
	// PodCIDRs and ServiceCIDRs of the cluster: external addresses inside them are refused.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// Protected are sockets that no external address may capture: the API server's.
	Protected []netip.AddrPort
	// Peers are the other nodes' addresses.
	Peers []netip.Addr
	// ReservedPorts are ports of the nodes' own addresses (this one's, its
	// Peers', and the Protected ones) that no Service may capture, whatever the protocol.
	ReservedPorts map[uint16]bool
	// Dead are names of nodes that are known not to work: their endpoints
	// are avoided unless nothing else is left.
	Dead map[string]bool
}

// Summary counts endpoint addresses (distinct IP addresses, all ports together).
type Summary struct {
	// Ready and LocalReady count ready endpoints, anywhere and on this node.
	// LocalReady is the weight of the health check node port.
	Ready, LocalReady int
	// Serving and LocalServing count terminating endpoints that still serve.
	Serving, LocalServing int
	// Eligible tells whether this node may attract traffic for the Service's
	// external addresses: always under externalTrafficPolicy Cluster, with a
	// ready local endpoint (or a serving one when none is ready) under Local.
	Eligible bool
	// HealthCheckNodePort is the port to answer health checks on, 0 for none.
	HealthCheckNodePort uint16
}

// Reason says for people why something of a Service is not, or not fully, forwarded.
type Reason struct {
	Code    string // CamelCase, stable
	Message string
}

// Result is the translation of one Service.
type Result struct {
	Wish    nft.Service
	Summary Summary
	Reasons []Reason
}

// The codes of reasons.
const (
	NotForwarded       = "NotForwarded"
	AddressRefused     = "AddressRefused"
	EndpointRefused    = "EndpointRefused"
	NoEndpoints        = "NoEndpoints"
	NoLocalEndpoints   = "NoLocalEndpoints"
	SourceRangeInvalid = "SourceRangeInvalid"
	DeadNodeAvoided    = "DeadNodeAvoided"
)

// translation is the work on one Service.
type translation struct {
	svc  *corev1.Service
	node Node
	pick nft.Pick
	out  Result
	said map[Reason]bool
	own  map[netip.Addr]bool // all addresses of the Service
}

// ownPort is what makes a frontend unique.
type ownPort struct {
	at    netip.AddrPort
	proto nft.Proto
}

// Service translates svc with all EndpointSlices that name it. Slices of
// other Services, of headless ones, or of unknown families are ignored. The result is the
// same for any order of slices and endpoints. A nil svc wishes nothing.
func Service(svc *corev1.Service, slices []*discoveryv1.EndpointSlice, node Node, pick nft.Pick) Result {
	if svc == nil {
		return Result{}
	}
	t := &translation{svc: svc, node: node, pick: pick, said: map[Reason]bool{}, own: map[netip.Addr]bool{}}
	if why := notForUs(svc); why != "" {
		t.reason(NotForwarded, "%s", why)
		return t.out
	}
	t.out.Wish.Created = svc.CreationTimestamp.Unix()
	if svc.CreationTimestamp.IsZero() {
		t.out.Wish.Created = 0
	}
	fronts := t.addresses()
	byPort := t.collect(slices)
	t.build(fronts, byPort)
	t.summarise(byPort)
	return t.out
}

// notForUs says why a Service is no business of a service proxy, "" if it is.
func notForUs(svc *corev1.Service) string {
	if name, other := svc.Labels[proxyName]; other {
		return fmt.Sprintf("label %s leaves it to %q", proxyName, name)
	}
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return "an ExternalName is an alias in the DNS"
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return "it is headless: the DNS answers with the pods"
	case svc.Spec.ClusterIP == "":
		return "it has no ClusterIP yet"
	}
	return ""
}

// proxyName is the label that gives a Service to another proxy.
const proxyName = "service.kubernetes.io/service-proxy-name"

// reason notes why something is as it is, each thing once.
func (t *translation) reason(code, format string, args ...any) {
	r := Reason{code, fmt.Sprintf(format, args...)}
	if !t.said[r] {
		t.said[r] = true
		t.out.Reasons = append(t.out.Reasons, r)
	}
}
