package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/speaker/nft"
)

var anyAddress = rapid.SampledFrom([]string{
	"10.244.1.1", "10.244.2.1", "10.244.3.1", "172.30.0.11", "172.30.0.10", "172.30.0.200", "203.0.113.9",
	"10.96.0.1", "10.96.0.2", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "0.0.0.1", "192.0.2.010",
	"fd44:1::1", "fd44:2::1", "fd96::1", "fd30::11", "fd30::200", "::1", "fe80::1", "ff02::1", "::", "::ffff:10.244.1.1", "::ffff:127.0.0.1",
	"fe80::1%eth0", "nonsense", "",
})

var anyRange = rapid.SampledFrom([]string{"198.51.100.0/24", "0.0.0.0/0", "::/0", "fd00::/8", " 172.30.0.0/24", "172.30.0.0/024", "x", "", "10.0.0.0/33", "1.2.3.4"})

func drawService(t *rapid.T) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	svc.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{"", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Odd"}).Draw(t, "type")
	svc.Spec.ClusterIPs = rapid.SliceOfN(anyAddress, 0, 2).Draw(t, "clusterIPs")
	svc.Spec.ClusterIP = "10.96.0.1"
	if len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	svc.Spec.ExternalIPs = rapid.SliceOfN(anyAddress, 0, 4).Draw(t, "externalIPs")
	svc.Spec.LoadBalancerSourceRanges = rapid.SliceOfN(anyRange, 0, 3).Draw(t, "ranges")
	for _, ip := range rapid.SliceOfN(anyAddress, 0, 3).Draw(t, "ingress") {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	svc.Spec.ExternalTrafficPolicy = rapid.SampledFrom([]corev1.ServiceExternalTrafficPolicy{"", "Local", "Cluster", "Odd"}).Draw(t, "external")
	internal := rapid.SampledFrom([]corev1.ServiceInternalTrafficPolicy{"Local", "Cluster"}).Draw(t, "internal")
	svc.Spec.InternalTrafficPolicy = &internal
	svc.Spec.SessionAffinity = rapid.SampledFrom([]corev1.ServiceAffinity{"", "None", "ClientIP"}).Draw(t, "affinity")
	for i := range rapid.IntRange(0, 4).Draw(t, "ports") {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name:     fmt.Sprintf("p%d", i%3),
			Port:     rapid.SampledFrom([]int32{22, 53, 80, 6443, 0, -1, 70000}).Draw(t, "port"),
			NodePort: rapid.SampledFrom([]int32{0, 30080, 22, 70000, -5}).Draw(t, "nodePort"),
			Protocol: rapid.SampledFrom([]corev1.Protocol{"", "TCP", "UDP", "SCTP", "ICMP"}).Draw(t, "protocol"),
		})
	}
	return svc
}

func drawSlices(t *rapid.T) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for i := range rapid.IntRange(0, 3).Draw(t, "slices") {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("web-", i), Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: rapid.SampledFrom([]discoveryv1.AddressType{"IPv4", "IPv6", "FQDN"}).Draw(t, "addressType"),
		}
		for j := range rapid.IntRange(0, 3).Draw(t, "slice ports") {
			name, port := fmt.Sprintf("p%d", j), rapid.SampledFrom([]int32{8080, 53, 0, 99999}).Draw(t, "slice port")
			proto := rapid.SampledFrom([]corev1.Protocol{"TCP", "UDP", "SCTP", "X"}).Draw(t, "slice protocol")
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &proto})
		}
		for range rapid.IntRange(0, 5).Draw(t, "endpoints") {
			s.Endpoints = append(s.Endpoints, drawEndpoint(t))
		}
		out = append(out, s)
	}
	return out
}

func drawEndpoint(t *rapid.T) discoveryv1.Endpoint {
	maybe := func(name string) *bool {
		return rapid.SampledFrom([]*bool{nil, new(bool), ptr(true)}).Draw(t, name)
	}
	e := discoveryv1.Endpoint{Addresses: rapid.SliceOfN(anyAddress, 0, 2).Draw(t, "addresses")}
	e.Conditions = discoveryv1.EndpointConditions{Ready: maybe("ready"), Serving: maybe("serving"), Terminating: maybe("terminating")}
	if node := rapid.SampledFrom([]string{"", "node1", "node2", "dead1"}).Draw(t, "node"); node != "" {
		e.NodeName = &node
	}
	if rapid.Bool().Draw(t, "hinted") {
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "zone")}}}
	}
	return e
}

func ptr[T any](v T) *T { return &v }

// TestHostile: whatever the objects say, no rule captures or reaches what it must not.
func TestHostile(t *testing.T) {
	node := testNode()
	rapid.Check(t, func(t *rapid.T) {
		svc, slices := drawService(t), drawSlices(t)
		checkWish(t, svc, Service(svc, slices, node, nft.Random).Wish, node)
	})
}

// fatal is a test that can fail, of whatever kind.
type fatal interface {
	Fatalf(format string, args ...any)
}

// checkWish: no rule captures or reaches what it must not.
func checkWish(t fatal, svc *corev1.Service, w nft.Service, n Node) {
	seen := map[ownPort]bool{}
	for _, f := range w.Frontends {
		id := ownPort{netip.AddrPortFrom(f.Addr, f.Port), f.Proto}
		if seen[id] {
			t.Fatalf("frontend twice: %+v", f)
		}
		seen[id] = true
		checkFrontend(t, svc, w, f, n)
	}
	for i, target := range w.Targets {
		checkTarget(t, i, target, n)
	}
	for _, a := range w.Addresses {
		if special(a) != "" || n.isNode(a) || within(a, n.PodCIDRs) {
			t.Fatalf("refuses all of %s, which is no ClusterIP", a)
		}
	}
	for _, a := range w.Hairpin {
		if slices.Contains(n.Addresses, a) {
			t.Fatalf("masquerades the node's own %s", a)
		}
	}
}

func checkFrontend(t fatal, svc *corev1.Service, w nft.Service, f nft.Frontend, n Node) {
	if !f.Addr.IsValid() || f.Addr.Is4In6() || f.Port == 0 || f.Addr.Zone() != "" {
		t.Fatalf("odd frontend %+v", f)
	}
	if !f.IsNodePort() {
		if special(f.Addr) != "" || within(f.Addr, n.PodCIDRs) {
			t.Fatalf("captures %s", f.Addr)
		}
		if f.Rank != nft.RankCluster && within(f.Addr, n.ServiceCIDRs) {
			t.Fatalf("captures a ClusterIP %s", f.Addr)
		}
		if slices.Contains(n.Protected, netip.AddrPortFrom(f.Addr, f.Port)) {
			t.Fatalf("captures the API server")
		}
		if n.ReservedPorts[f.Port] && n.isNode(f.Addr) {
			t.Fatalf("captures a node's own port")
		}
	} else if n.ReservedPorts[f.Port] {
		t.Fatalf("node port captures the node's own port")
	}
	for _, i := range []int{f.Target, f.Short} {
		if i != nft.None && (i < 0 || i >= len(w.Targets) || w.Targets[i].Endpoints[0].Addr().Is6() != f.Addr.Is6()) {
			t.Fatalf("bad target %d of %+v", i, f)
		}
	}
	if (f.Kind == nft.Cluster || f.Kind == nft.External) != (f.Target != nft.None) && f.Kind != nft.Local {
		t.Fatalf("kind %s with target %d", f.Kind, f.Target)
	}
	if f.Rank == nft.RankBalancer && !f.Guarded && len(svc.Spec.LoadBalancerSourceRanges) > 0 && !opens(svc, f.Addr.Is6()) {
		t.Fatalf("%s is open although there are ranges %q", f.Addr, svc.Spec.LoadBalancerSourceRanges)
	}
}

// opens tells whether the ranges let everybody of a family in: one that says
// so, or only ones of the other family.
func opens(svc *corev1.Service, v6 bool) bool {
	ours, unreadable := false, false
	for _, s := range svc.Spec.LoadBalancerSourceRanges {
		p, ok := parsePrefix(s)
		unreadable = unreadable || !ok
		if ok && p.Addr().Is6() == v6 {
			ours = true
			if p.Bits() == 0 {
				return true
			}
		}
	}
	return !ours && !unreadable
}

func checkTarget(t fatal, i int, target nft.Target, n Node) {
	if len(target.Endpoints) == 0 || !slices.IsSortedFunc(target.Endpoints, netip.AddrPort.Compare) {
		t.Fatalf("target %d: %v", i, target.Endpoints)
	}
	for j, e := range target.Endpoints {
		if special(e.Addr()) != "" || within(e.Addr(), n.ServiceCIDRs) || e.Port() == 0 || e.Addr().Is4In6() {
			t.Fatalf("target %d reaches %s", i, e)
		}
		if j > 0 && e == target.Endpoints[j-1] {
			t.Fatalf("target %d has %s twice", i, e)
		}
		if e.Addr().Is6() != target.Endpoints[0].Addr().Is6() {
			t.Fatalf("target %d mixes families", i)
		}
	}
}

// TestOrderDoesNotMatter: slices and endpoints may come in any order.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svc, in := drawService(t), drawSlices(t)
		want := Service(svc, in, testNode(), nft.Random)
		mixed := rapid.Permutation(in).Draw(t, "slices in order")
		for i, s := range mixed {
			mixed[i] = s.DeepCopy()
			mixed[i].Endpoints = rapid.Permutation(s.Endpoints).Draw(t, "endpoints in order")
		}
		got := Service(svc, mixed, testNode(), nft.Random)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
			cmpopts.SortSlices(func(a, b Reason) bool { return a.Message < b.Message })); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestManyPorts guards against cost that grows faster than an object does.
func TestManyPorts(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	svc.Spec.ClusterIP = "10.96.0.1"
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: "IPv4"}
	slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.1"}}}
	for i := range int32(10000) {
		name := fmt.Sprint(i)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: name, Port: i + 1})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: ptr(i + 1)})
	}
	w := Service(svc, []*discoveryv1.EndpointSlice{slice}, testNode(), nft.Random).Wish
	if len(w.Frontends) != 10000 || len(w.Targets) != 10000 {
		t.Errorf("%d frontends, %d targets", len(w.Frontends), len(w.Targets))
	}
}

// FuzzAddresses: what is read is an ordinary address, and reads the same again.
func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"1.2.3.004", "203.0.113.000/025", "::ffff:1.2.3.4", "fe80::1%eth0", "...", "0/0", " 10.0.0.0/8 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, ok := parseAddr(s); ok {
			if again, ok := parseAddr(a.String()); !ok || again != a || a.Is4In6() || a.Zone() != "" {
				t.Errorf("%q is %s is %s", s, a, again)
			}
		}
		if p, ok := parsePrefix(s); ok {
			if again, ok := parsePrefix(p.String()); !ok || again != p || p != p.Masked() {
				t.Errorf("%q is %s is %s", s, p, again)
			}
		}
	})
}
