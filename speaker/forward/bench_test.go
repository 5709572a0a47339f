package forward

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// BenchmarkConnect opens TCP connections, hears one line, and closes them:
// straight to a pod, and through each kind of address of a Service among many.
func BenchmarkConnect(b *testing.B) {
	for _, n := range []int{100, 10000, 30000} {
		l := newLab(b)
		table := l.table(nil)
		services, slices := benchObjects()
		all := map[string]nft.Service{"shop/web": Service(services, slices, testNode(), nft.Random).Wish}
		for i := range n {
			all[fmt.Sprint("x/", i)] = crowded(i)
		}
		if _, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: all, Full: true}); err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct{ name, from, to string }{
			{"straight", "pod", "10.244.1.1:8080"},
			{"clusterip", "pod", "10.96.0.1:80"},
			{"straight-outside", "client", "10.244.1.1:8080"},
			{"nodeport", "client", "172.30.0.11:30080"},
			{"balancer", "client", "172.30.0.200:80"},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				ns, _ := l.source(c.from)
				l.in(ns, func() error {
					for b.Loop() {
						if out := dialOnce(longPatience, netip.Addr{}, c.to); out.failure != "" {
							return fmt.Errorf("%s: %s", c.to, out.failure)
						}
					}
					return nil
				})
			})
		}
	}
}

func benchObjects() (*corev1.Service, []*discoveryv1.EndpointSlice) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	svc.Spec.Type, svc.Spec.ClusterIP = corev1.ServiceTypeLoadBalancer, "10.96.0.1"
	svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "172.30.0.200"}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}},
	}
	for _, a := range hereAddrs {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: ptr("node1")})
	}
	return svc, []*discoveryv1.EndpointSlice{slice}
}

// crowded is one of many Services with ten endpoints.
func crowded(i int) nft.Service {
	at := netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)})
	s := nft.Service{Addresses: []netip.Addr{at}, Targets: []nft.Target{{}}}
	for e := range 10 {
		s.Targets[0].Endpoints = append(s.Targets[0].Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 + byte(e), byte(i >> 8), byte(i)}), 80))
	}
	s.Frontends = []nft.Frontend{{Addr: at, Proto: nft.TCP, Port: 80, Kind: nft.Cluster, Target: 0, Short: nft.None}}
	return s
}

// BenchmarkTranslate translates one Service with so many endpoints.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{10, 1000} {
		svc, slices := benchObjects()
		slices[0].Endpoints = nil
		for i := range n {
			slices[0].Endpoints = append(slices[0].Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", i/200, i%200+1)}, NodeName: ptr("node2")})
		}
		node := testNode()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Service(svc, slices, node, nft.Random)
			}
		})
	}
}
