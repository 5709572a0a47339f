package forward

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// A toggle is a feature of a Service: what switches it on, and what packets do
// while it is on, in the words of TestPackets.
type toggle struct {
	on      func(*corev1.Service, *discoveryv1.EndpointSlice, *Node)
	packets string
}

const (
	everywhere = "10.244.1.1:8080 10.244.2.1:8080"
	// plainPackets are those of the Service with no feature on.
	plainPackets = `pod tcp 10.96.0.1:80 = ` + everywhere + ` kept
client tcp 172.30.0.200:80 = ` + everywhere + ` masqueraded
client tcp 203.0.113.9:80 = ` + everywhere + ` masqueraded
client tcp 172.30.0.11:30080 = ` + everywhere + ` masqueraded`
)

// TestSwitches switches each feature on and off again, live, by the changed
// Service alone. What packets do is the feature's while it is on, and as before
// when it is off; another Service is called all the time and never fails.
func TestSwitches(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	bystander := simple(nft.TCP, 80, nil, "10.244.1.2:9090")
	for i, a := range both("10.96.0.9") {
		bystander.Frontends[i].Addr, bystander.Addresses[i] = a, a
	}
	l.apply(table, map[string]nft.Service{"by/stander": bystander})
	for i, family := range []string{"ip", "ip6"} {
		turn := []func(string) string{func(s string) string { return s }, sixth}[i]
		stop := l.callers(t, turn, map[string][]string{"pod": {"10.96.0.9:80"}, "client": {"10.96.0.9:80"}})
		for name, feature := range toggles() {
			t.Run(name+"/"+family, func(t *testing.T) {
				l := *l
				l.t = t
				l.flip(table, feature, turn)
			})
		}
		stop()
	}
}

// flip switches a feature on and off.
func (l *lab) flip(table *nft.Table, feature toggle, turn func(string) string) {
	l.t.Helper()
	put := func(change func(*corev1.Service, *discoveryv1.EndpointSlice, *Node), packets string) {
		l.t.Helper()
		services, slices := objects(l.t.(*testing.T), turn(transitionObjects))
		n := testNode()
		change(services[0], slices[0], &n)
		w := Service(services[0], slices, n, nft.Random).Wish
		_, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": w}})
		l.check(err)
		_, err = table.Sweep()
		l.check(err)
		for line := range strings.SplitSeq(packets, "\n") {
			l.probe(line, turn)
		}
	}
	off := func(*corev1.Service, *discoveryv1.EndpointSlice, *Node) {}
	put(off, plainPackets)
	put(feature.on, feature.packets)
	put(off, plainPackets)
}

func toggles() map[string]toggle {
	type (
		service = *corev1.Service
		slice   = *discoveryv1.EndpointSlice
	)
	internal, proxy := corev1.ServiceInternalTrafficPolicyLocal, corev1.LoadBalancerIPModeProxy
	return map[string]toggle{
		"service-proxy-name": {func(s service, _ slice, _ *Node) { s.Labels = map[string]string{proxyName: "mesh"} },
			"pod tcp 10.96.0.1:80 = dropped\nclient tcp 172.30.0.11:30080 = refused"},
		"ExternalName": {func(s service, _ slice, _ *Node) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.ExternalIPs = corev1.ServiceTypeExternalName, "example.com", nil
		}, "pod tcp 10.96.0.1:80 = dropped\nclient tcp 172.30.0.11:30080 = refused"},
		"ipMode Proxy": {func(s service, _ slice, _ *Node) { s.Status.LoadBalancer.Ingress[0].IPMode = &proxy },
			"client tcp 172.30.0.200:80 = dropped\nclient tcp 203.0.113.9:80 = " + everywhere + " masqueraded"},
		"no externalIPs": {func(s service, _ slice, _ *Node) { s.Spec.ExternalIPs = nil },
			"client tcp 203.0.113.9:80 = dropped\nclient tcp 172.30.0.200:80 = " + everywhere + " masqueraded"},
		"no node ports": {func(s service, _ slice, _ *Node) { s.Spec.Ports[0].NodePort = 0 },
			"client tcp 172.30.0.11:30080 = refused\nclient tcp 172.30.0.200:80 = " + everywhere + " masqueraded"},
		"another node port": {func(s service, _ slice, _ *Node) { s.Spec.Ports[0].NodePort = 30081 },
			"client tcp 172.30.0.11:30080 = refused\nclient tcp 172.30.0.11:30081 = " + everywhere + " masqueraded"},
		"another port": {func(s service, _ slice, _ *Node) { s.Spec.Ports[0].Port = 81 },
			"pod tcp 10.96.0.1:80 = refused\npod tcp 10.96.0.1:81 = " + everywhere + " kept"},
		"another target port": {func(_ service, e slice, _ *Node) { e.Ports[0].Port = ptr(int32(9090)) },
			"pod tcp 10.96.0.1:80 = 10.244.1.1:9090 10.244.2.1:9090 kept"},
		"UDP": {func(s service, _ slice, _ *Node) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP },
			"pod tcp 10.96.0.1:80 = refused\nclient tcp 172.30.0.11:30080 = refused"},
		"externalTrafficPolicy Local": {func(s service, _ slice, _ *Node) { s.Spec.ExternalTrafficPolicy = "Local" },
			"client tcp 172.30.0.200:80 = 10.244.1.1:8080 kept\npod tcp 172.30.0.200:80 = " + everywhere + " kept"},
		"internalTrafficPolicy Local": {func(s service, _ slice, _ *Node) { s.Spec.InternalTrafficPolicy = &internal },
			"pod tcp 10.96.0.1:80 = 10.244.1.1:8080 kept\nclient tcp 172.30.0.200:80 = " + everywhere + " masqueraded"},
		"source ranges": {func(s service, _ slice, _ *Node) {
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24", "2001:db8:1::/64"}
		},
			"client tcp 172.30.0.200:80 = dropped\nclient tcp 203.0.113.9:80 = " + everywhere + " masqueraded"},
		"zone hints": {func(_ service, e slice, _ *Node) { hint(e, "a", "b", "", "") }, "pod tcp 10.96.0.1:80 = 10.244.1.1:8080 kept"},
		"zone hints of another zone": {func(_ service, e slice, n *Node) { hint(e, "a", "b", "", ""); n.Zone = "b" },
			"pod tcp 10.96.0.1:80 = 10.244.2.1:8080 kept"},
		"a hint is missing": {func(_ service, e slice, _ *Node) { hint(e, "a", "", "", "") }, "pod tcp 10.96.0.1:80 = " + everywhere + " kept"},
		"node hints":        {func(_ service, e slice, _ *Node) { hint(e, "a", "a", "node1", "node2") }, "pod tcp 10.96.0.1:80 = 10.244.1.1:8080 kept"},
		"only terminating": {func(_ service, e slice, _ *Node) { terminate(e, true) },
			"pod tcp 10.96.0.1:80 = " + everywhere + " kept"},
		"terminated": {func(_ service, e slice, _ *Node) { terminate(e, false) }, "pod tcp 10.96.0.1:80 = refused\nclient tcp 172.30.0.200:80 = refused"},
		"a dead node": {func(_ service, _ slice, n *Node) { n.Dead = map[string]bool{"node2": true} },
			"pod tcp 10.96.0.1:80 = 10.244.1.1:8080 kept"},
		"headless slice": {func(_ service, e slice, _ *Node) { e.Labels[headless] = "" }, "pod tcp 10.96.0.1:80 = refused"},
	}
}

// hint gives the two endpoints hints of zones and nodes; "" is none.
func hint(e *discoveryv1.EndpointSlice, zone1, zone2, node1, node2 string) {
	for i, h := range [][2]string{{zone1, node1}, {zone2, node2}} {
		e.Endpoints[i].Hints = &discoveryv1.EndpointHints{}
		if h[0] != "" {
			e.Endpoints[i].Hints.ForZones = []discoveryv1.ForZone{{Name: h[0]}}
		}
		if h[1] != "" {
			e.Endpoints[i].Hints.ForNodes = []discoveryv1.ForNode{{Name: h[1]}}
		}
	}
}

func terminate(e *discoveryv1.EndpointSlice, serving bool) {
	for i := range e.Endpoints {
		e.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: new(bool), Serving: &serving, Terminating: ptr(true)}
	}
}
