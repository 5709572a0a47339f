package forward

import (
	"context"
	"net"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

const staleObjects = `kind: Service
apiVersion: v1
metadata: {name: dns, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: dns, port: 53, protocol: UDP, nodePort: 30053}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: dns-1, namespace: shop, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: ["10.244.1.1"], nodeName: node1}
`

// TestStaleAfter: a client that always sends from one port gets the endpoint of
// the day with its next datagram, whatever the change was that took the old one away.
func TestStaleAfter(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	second := discoveryv1.Endpoint{Addresses: []string{"10.244.1.2"}, NodeName: ptr("node1")}
	no := discoveryv1.EndpointConditions{Ready: new(bool), Serving: new(bool)}
	for name, test := range map[string]struct {
		change func(*corev1.Service, *discoveryv1.EndpointSlice)
		want   string
	}{
		"the pod is another": {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints = []discoveryv1.Endpoint{second}
		}, "10.244.1.2:53"},
		"unready": {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints[0].Conditions = no
			e.Endpoints = append(e.Endpoints, second)
		}, "10.244.1.2:53"},
		"the target port": {func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Ports[0].Port = ptr(int32(5353)) }, "10.244.1.1:5353"},
		"under internalTrafficPolicy Local": {func(s *corev1.Service, e *discoveryv1.EndpointSlice) {
			s.Spec.InternalTrafficPolicy = &local
			e.Endpoints = []discoveryv1.Endpoint{second}
		}, "10.244.1.2:53"},
		"under externalTrafficPolicy Local": {func(s *corev1.Service, e *discoveryv1.EndpointSlice) {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			e.Endpoints = []discoveryv1.Endpoint{second}
		}, "10.244.1.2:53"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for _, a := range hereAddrs[:2] {
				l.hear(l.here, a, 53)
				l.hear(l.here, a, 5353)
			}
			table := l.fresh()
			for _, turn := range []func(string) string{func(s string) string { return s }, sixth} {
				services, slices := objects(t, turn(staleObjects))
				put := func() {
					t.Helper()
					w := Service(services[0], slices, testNode(), nft.Random).Wish
					_, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/dns": w}})
					l.check(err)
				}
				put()
				clients := l.resolvers(turn)
				expect(t, clients, target("10.244.1.1:53", turn))
				test.change(services[0], slices[0])
				for i, e := range slices[0].Endpoints {
					slices[0].Endpoints[i].Addresses = []string{turn(e.Addresses[0])}
				}
				put()
				expect(t, clients, target(test.want, turn))
			}
		})
	}
}

// resolvers are sockets that ask the Service: of a pod, of the node itself, and of somebody outside.
func (l *lab) resolvers(turn func(string) string) map[string]net.Conn {
	l.t.Helper()
	clients := map[string]net.Conn{}
	for who, to := range map[string]string{"pod": vip + ":53", "node": vip + ":53", "client": nodeAddr + ":30053"} {
		ns, _ := l.source(who)
		l.in(ns, func() error {
			c, err := net.Dial("udp", target(to, turn))
			if err == nil {
				l.t.Cleanup(func() { _ = c.Close() })
				clients[who] = c
			}
			return err
		})
	}
	return clients
}

func expect(t *testing.T, clients map[string]net.Conn, want string) {
	t.Helper()
	for who, c := range clients {
		out := ask(longPatience, c)
		if at, err := netip.ParseAddrPort(out.endpoint); err != nil || at != netip.MustParseAddrPort(want) {
			t.Errorf("%s was answered by %s%s, want %s", who, out.endpoint, out.failure, want)
		}
	}
}

// TestAffinityIsThePorts: a client keeps its endpoint at all addresses of a
// Service's port, and another port of the Service has a choice of its own.
func TestAffinityIsThePorts(t *testing.T) {
	const ports = 24 // that all of them choose alike by chance is one in 2^23
	l := newLab(t)
	table := l.fresh()
	for i, turn := range []func(string) string{func(s string) string { return s }, sixth} {
		services, slices := objects(t, turn(transitionObjects))
		svc := services[0]
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		for p := range int32(ports) {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "http", Port: 100 + p})
		}
		w := Service(svc, slices, testNode(), nft.Random).Wish
		_, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": w}})
		l.check(err)
		mine := l.only(l.pod, target("10.96.0.1:80", turn), 10)
		for _, to := range []string{"172.30.0.200:80", "203.0.113.9:80", "172.30.0.11:30080"} {
			if got := l.only(l.pod, target(to, turn), 10); got != mine {
				t.Errorf("%s leads to %s, the ClusterIP to %s", to, got, mine)
			}
		}
		others := map[string]bool{}
		for p := range uint16(ports) {
			others[l.only(l.pod, netip.AddrPortFrom(both(vip)[i], 100+p).String(), 3)] = true
		}
		if len(others) < 2 {
			t.Errorf("%d other ports all chose %v", ports, others)
		}
	}
}
