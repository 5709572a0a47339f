package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	serviceCIDR    = "10.96.0.0/12"
	probeNamespace = "probe"
	crowdNamespace = "crowd"
	// The Service that packets go to.
	probeIP       = "10.96.0.80"
	probeBalancer = "203.0.113.200"
	probeNodePort = 30080
	probePort     = 8080
	// each is how many endpoints a Service has.
	each = 10
	// writers is how many requests are under way at once.
	writers = 16
)

// fakeNodes is how many nodes the endpoints that nobody asks are said to be on.
const fakeNodes = 100

// nth is an address of a range.
func nth(first netip.Addr, n int) netip.Addr {
	b := first.As4()
	at := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	at += uint32(n)
	return netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
}

// crowdIP is the ClusterIP of one of the many Services.
func crowdIP(i int) netip.Addr { return nth(netip.MustParseAddr("10.100.0.0"), i) }

// crowdEndpoint is an endpoint of one of the many Services, where nobody is.
func crowdEndpoint(i, e int) netip.Addr {
	return nth(netip.MustParseAddr("10.128.0.0"), i*each+e)
}

// fresh is an endpoint that no Service had before.
func fresh(n int) netip.Addr { return nth(netip.MustParseAddr("10.192.0.0"), n) }

func crowdName(i int) string { return fmt.Sprintf("svc-%05d", i) }

func crowdService(i int) *corev1.Service {
	svc := newService(crowdNamespace, crowdName(i), crowdIP(i).String())
	svc.Spec.Ports = []corev1.ServicePort{servicePort("http", corev1.ProtocolTCP, 0)}
	return svc
}

func crowdSlice(i int) *discoveryv1.EndpointSlice {
	slice := newSlice(crowdNamespace, crowdName(i), corev1.ProtocolTCP)
	for e := range each {
		slice.Endpoints = append(slice.Endpoints, newEndpoint(crowdEndpoint(i, e).String(), fmt.Sprintf("node-%d", (i+e)%fakeNodes), crowdNamespace))
	}
	return slice
}

func newService(namespace, name, ip string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}}}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = ip, []string{ip}
	return svc
}

func servicePort(name string, protocol corev1.Protocol, nodePort int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: protocol, Port: probePort, TargetPort: intstr.FromInt32(probePort), NodePort: nodePort}
}

// newSlice is as the controller of EndpointSlices would write it, but without endpoints.
func newSlice(namespace, service string, protocols ...corev1.Protocol) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service + "-abcde", GenerateName: service + "-",
			Labels: map[string]string{
				"app": service, discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
			},
			Annotations: triggered(time.Now()),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: service, UID: types.UID(uid(service)), Controller: ptr(true), BlockOwnerDeletion: ptr(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	names := map[corev1.Protocol]string{corev1.ProtocolTCP: "http", corev1.ProtocolUDP: "udp"}
	for _, protocol := range protocols {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr(names[protocol]), Protocol: ptr(protocol), Port: ptr(int32(probePort))})
	}
	return slice
}

// triggered is the annotation by which programming latency is measured.
func triggered(at time.Time) map[string]string {
	return map[string]string{corev1.EndpointsLastChangeTriggerTime: at.UTC().Format(time.RFC3339Nano)}
}

func newEndpoint(address, node, namespace string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
		NodeName:   ptr(node), Zone: ptr("zone1"),
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "pod-" + address, UID: types.UID(uid(address))},
	}
}

// uid has the length of one.
func uid(of string) string { return fmt.Sprintf("00000000-0000-4000-8000-%012.12s", of) }

func ptr[T any](v T) *T { return &v }

// probeService is the Service that packets go to.
func probeService() (*corev1.Service, *discoveryv1.EndpointSlice) {
	svc := newService(probeNamespace, "front", probeIP)
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	svc.Spec.Ports = []corev1.ServicePort{
		servicePort("http", corev1.ProtocolTCP, probeNodePort), servicePort("udp", corev1.ProtocolUDP, probeNodePort),
	}
	slice := newSlice(probeNamespace, "front", corev1.ProtocolTCP, corev1.ProtocolUDP)
	for i := range realEndpoints {
		slice.Endpoints = append(slice.Endpoints, newEndpoint(realEndpoint(i), nodeName, probeNamespace))
	}
	return svc, slice
}

// makeProbe creates the Service that packets go to and gives it an address.
func (p *plane) makeProbe(ctx context.Context) error {
	svc, slice := probeService()
	if err := p.create(ctx, svc, slice); err != nil {
		return err
	}
	return p.balance(ctx, svc.Namespace, svc.Name, probeBalancer)
}

// balance does what Fairlead's controller would: it gives a Service an address.
func (p *plane) balance(ctx context.Context, namespace, name, address string) error {
	services := p.client.CoreV1().Services(namespace)
	svc, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get Service %s: %w", name, err)
	}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	if _, err := services.UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("give Service %s an address: %w", name, err)
	}
	return nil
}

func (p *plane) create(ctx context.Context, svc *corev1.Service, slice *discoveryv1.EndpointSlice) error {
	if _, err := p.client.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Service %s: %w", svc.Name, err)
	}
	if _, err := p.client.DiscoveryV1().EndpointSlices(svc.Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// change replaces one endpoint of one of the many Services.
func (p *plane) change(ctx context.Context, slice *discoveryv1.EndpointSlice, e int, to netip.Addr) (*discoveryv1.EndpointSlice, error) {
	slice = slice.DeepCopy()
	slice.ResourceVersion = "" // this program is the only writer
	slice.Annotations = triggered(time.Now())
	slice.Endpoints[e] = newEndpoint(to.String(), fmt.Sprintf("node-%d", e), crowdNamespace)
	changed, err := p.client.DiscoveryV1().EndpointSlices(slice.Namespace).Update(ctx, slice, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("change EndpointSlice %s: %w", slice.Name, err)
	}
	return changed, nil
}

func (p *plane) patch(ctx context.Context, service int, patch string) error {
	name := crowdSlice(service).Name
	_, err := p.client.DiscoveryV1().EndpointSlices(crowdNamespace).Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("patch EndpointSlice %s: %w", name, err)
	}
	return nil
}
