package forward

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

const transitionObjects = `kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  externalIPs: [203.0.113.9]
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: http, port: 80, nodePort: 30080}]
status:
  loadBalancer: {ingress: [{ip: 172.30.0.200}]}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: ["10.244.1.1"], nodeName: node1}
- {addresses: ["10.244.2.1"], nodeName: node2}
`

// TestTransitions switches every feature of a Service on, changes it, and
// switches it off, while clients in and outside the cluster connect. All the
// states serve them, so no connection may fail in or between them.
func TestTransitions(t *testing.T) {
	local, cluster := corev1.ServiceInternalTrafficPolicyLocal, corev1.ServiceInternalTrafficPolicyCluster
	seconds := int32(60)
	steps := []func(*corev1.Service, *discoveryv1.EndpointSlice){
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.ExternalTrafficPolicy = "Local" },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.InternalTrafficPolicy = &local },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.SessionAffinity = "ClientIP" },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		},
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.LoadBalancerSourceRanges = []string{"172.30.0.0/24", "fd30::/64"}
		},
		func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints[1].Conditions.Ready = new(bool)
		},
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.ExternalTrafficPolicy = "Cluster" },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.InternalTrafficPolicy = &cluster },
		func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		},
		func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Endpoints[1].Conditions.Ready = ptr(true) },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.SessionAffinity = "None" },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.LoadBalancerSourceRanges = nil },
		func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "other", Port: 81, NodePort: 30081})
		},
		func(_ *corev1.Service, e *discoveryv1.EndpointSlice) {
			e.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: new(bool), Terminating: ptr(true)}
			e.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: new(bool), Terminating: ptr(true)}
		},
	}
	l := newLab(t)
	table := l.fresh()
	for i, name := range []string{"ip", "ip6"} {
		turn := []func(string) string{func(s string) string { return s }, sixth}[i]
		services, slices := objects(t, turn(transitionObjects))
		svc, slice := services[0], slices[0]
		put := func(pick nft.Pick) {
			t.Helper()
			w := Service(svc, slices, testNode(), pick).Wish
			if _, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": w}}); err != nil {
				t.Fatal(err)
			}
		}
		put(nft.Random)
		t.Run(name, func(t *testing.T) {
			stop := l.callers(t, turn, asked)
			for round := range 5 {
				// Each step is on when the next begins; hashing goes on and off meanwhile.
				for j, step := range steps {
					step(svc, slice)
					put(nft.Pick(j % 2))
					l.settled(t, turn, fmt.Sprintf("round %d, step %d", round, j))
				}
				fresh, again := objects(t, turn(transitionObjects))
				*svc, *slice = *fresh[0], *again[0]
				put(nft.Random)
			}
			stop()
		})
	}
}

// frontends of the transitions' Service, by who asks.
var asked = map[string][]string{
	"pod":    {"10.96.0.1:80"},
	"client": {"172.30.0.200:80", "203.0.113.9:80", "172.30.0.11:30080"},
}

// settled asks each frontend once, so that no state passes unseen.
func (l *lab) settled(t *testing.T, turn func(string) string, when string) {
	t.Helper()
	for who, tos := range asked {
		ns, _ := l.source(who)
		for _, to := range tos {
			l.in(ns, func() error {
				if out := dialOnce(longPatience, netip.Addr{}, target(to, turn)); out.failure != "" {
					t.Errorf("%s: %s to %s: %s", when, who, to, out.failure)
				}
				return nil
			})
		}
	}
}

// callers connect all the time, by who asks for what, until the function it
// returns is called, which reports failures.
func (l *lab) callers(t *testing.T, turn func(string) string, asked map[string][]string) (stop func()) {
	var ended atomic.Bool
	failures := make(chan map[string]int)
	ask := func(ns netns.NsHandle, tos []string) {
		seen := map[string]int{}
		_ = tryIn(ns, func() error {
			for i := 0; !ended.Load(); i++ {
				to := target(tos[i%len(tos)], turn)
				if out := dialOnce(longPatience, netip.Addr{}, to); out.failure != "" {
					seen[to+" "+out.failure]++
				}
			}
			return nil
		})
		failures <- seen
	}
	for who, tos := range asked {
		ns, _ := l.source(who)
		go ask(ns, tos)
	}
	return func() {
		t.Helper()
		ended.Store(true)
		for range asked {
			for what, n := range <-failures {
				t.Errorf("%d connections failed: %s", n, what)
			}
		}
	}
}

// TestStaleNodePort moves a client outside, which asks a node port from one
// source port, when its endpoint goes.
func TestStaleNodePort(t *testing.T) {
	l := newLab(t)
	l.hear(l.here, "10.244.1.1", 53)
	l.hear(l.far, "10.244.2.1", 53)
	table := l.fresh()
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		put := func(ep string) nft.Report {
			any4 := netip.IPv4Unspecified()
			if netip.MustParseAddrPort(in(ep)).Addr().Is6() {
				any4 = netip.IPv6Unspecified()
			}
			s := nft.Service{
				Targets:   []nft.Target{{Endpoints: []netip.AddrPort{netip.MustParseAddrPort(in(ep))}}},
				Frontends: []nft.Frontend{{Addr: any4, Proto: nft.UDP, Port: 30053, Kind: nft.External, Target: 0, Short: nft.None}},
				Serving:   []nft.Serving{{Frontends: []int{0}, Endpoints: []netip.AddrPort{netip.MustParseAddrPort(in(ep))}}},
			}
			return l.apply(table, map[string]nft.Service{"a/b": s})
		}
		put("10.244.1.1:53")
		var c net.Conn
		l.in(l.client, func() error {
			var err error
			c, err = net.Dial("udp", in(nodeAddr+":30053"))
			return err
		})
		defer func() { _ = c.Close() }()
		if out := ask(longPatience, c); out.endpoint != in("10.244.1.1:53") {
			t.Errorf("first: %+v", out)
		}
		if rep := put("10.244.2.1:53"); rep.Connections != 1 {
			t.Errorf("%d connections forgotten", rep.Connections)
		}
		if out := ask(longPatience, c); out.endpoint != in("10.244.2.1:53") {
			t.Errorf("then: %+v", out)
		}
	})
}
