package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// The addresses of the Service that the BGP tests announce; of a pool that nothing else uses.
var (
	routed4 = netip.MustParseAddr("172.30.0.193")
	routed6 = netip.MustParseAddr("fd30::1c1")
	nodes   = []string{"node1", "node2", "node3"}
)

// routed makes the Service and its pool. An advertisement to nobody keeps Layer 2 away from it between tests.
func routed(t *testing.T, changes ...func(*corev1.ServiceSpec)) {
	t.Helper()
	pool := newPool("routed", "172.30.0.192/29", "fd30::1c0/124")
	nobody := newAdvertisement("nobody")
	nobody.Spec.Peers = []string{"nobody"}
	svc := newService("routed", map[string]string{
		"fairlead.dev/address-pool": "routed", "fairlead.dev/loadBalancerIPs": routed4.String() + "," + routed6.String(),
	})
	policy := corev1.IPFamilyPolicyRequireDualStack
	svc.Spec.IPFamilyPolicy = &policy
	for _, change := range changes {
		change(&svc.Spec)
	}
	create(t, pool, nobody, svc)
	allocated(t, "routed", v1beta1.ReasonAddressAllocated)
}

func newAdvertisement(name string) *v1beta1.BGPAdvertisement {
	return &v1beta1.BGPAdvertisement{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"routed"}},
	}
}

// newPeer is a peer for one session with both families.
func newPeer(name string, r router) *v1beta1.BGPPeer {
	return &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.BGPPeerSpec{
		MyASN: 64512, PeerASN: r.asn, PeerAddress: r.address, DualStackAddressFamily: true,
		ConnectTime: &metav1.Duration{Duration: time.Second},
	}}
}

func onlyOn(nodes ...string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelHostname, Operator: metav1.LabelSelectorOpIn, Values: nodes},
	}}}
}

func pointer[T any](v T) *T { return &v }

// bgpCase is what users and the routers' operators write, and what the routers then have.
type bgpCase struct {
	name      string
	frr, bird []string // changes of the manual's configurations, old and new text in turns
	asn       uint32   // of both routers; 0: as in the manual
	setUp     func(t *testing.T)
	peer      func(*v1beta1.BGPPeerSpec)
	frrPeer   func(*v1beta1.BGPPeerSpec)
	birdPeer  func(*v1beta1.BGPPeerSpec)
	advertise func(*v1beta1.BGPAdvertisementSpec)
	want      path               // of each path, but for the node
	nodes     map[string]bool    // with a path; empty: all
	birdNodes []string           // if others than at FRR
	none      map[string]bool    // routers that learn nothing, by host
	prefixes  []netip.Prefix     // empty: the Service's addresses
	check     func(t *testing.T) // more to look at
}

const ebgp = "64512"

func bgpCases() []bgpCase {
	return slices.Concat(sessionCases(), moreSessionCases(), routeCases(), selectionCases())
}

// sessionCases are about how sessions come to be.
func sessionCases() []bgpCase {
	secret := func(t *testing.T) {
		create(t, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "routers"},
			Type:       corev1.SecretTypeBasicAuth, StringData: map[string]string{"username": "any", "password": "s3cret"},
		})
	}
	return []bgpCase{
		{name: "eBGP, both families in one session", want: path{ASPath: ebgp}, check: everyNodeCarries},
		{
			name: "iBGP with a local preference", asn: 64512,
			frr: []string{
				"router bgp 64513", "router bgp 64512", "maximum-paths 64", "maximum-paths ibgp 64",
			},
			bird:      []string{"local as 64514;", "local as 64512; direct;"},
			advertise: func(s *v1beta1.BGPAdvertisementSpec) { s.LocalPref = pointer(uint32(222)) },
			want:      path{LocalPref: 222},
		}, {
			name: "AS numbers of 4 bytes, any external", asn: 4200000002,
			frr:  []string{"router bgp 64513", "router bgp 4200000002", "remote-as 64512", "remote-as 4200000001"},
			bird: []string{"local as 64514", "local as 4200000002", "as 64512", "as 4200000001"},
			peer: func(s *v1beta1.BGPPeerSpec) {
				s.MyASN, s.PeerASN, s.DynamicASN = 4200000001, 0, v1beta1.DynamicASNExternal
			},
			want: path{ASPath: "4200000001"},
		}, {
			name:  "MD5, the password in a Secret",
			frr:   []string{" neighbor fairlead timers", " neighbor fairlead password s3cret\n neighbor fairlead timers"},
			bird:  []string{"hold time 30;", `hold time 30; password "s3cret";`},
			setUp: secret,
			peer:  func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret.Name = "routers" },
			want:  path{ASPath: ebgp},
		}, {
			name: "GTSM",
			frr:  []string{" neighbor fairlead timers", " neighbor fairlead ttl-security hops 1\n neighbor fairlead timers"},
			bird: []string{"hold time 30;", `hold time 30; ttl security on;`},
			peer: func(s *v1beta1.BGPPeerSpec) { s.TTLSecurity = 1 },
			want: path{ASPath: ebgp},
		}, {
			name:     "several hops away",
			frr:      []string{" neighbor fairlead timers", " neighbor fairlead ebgp-multihop 4\n neighbor fairlead timers"},
			bird:     []string{"protocol device {}", "protocol device {}\nprotocol direct { ipv4; ipv6; }", "hold time 30;", "hold time 30; multihop 4;", "bfd on;", "", "graceful restart on;", "graceful restart on; source address 172.29.0.2;"},
			setUp:    behindTheRouters,
			peer:     func(s *v1beta1.BGPPeerSpec) { s.EBGPMultiHop = true },
			frrPeer:  func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "172.29.0.1" },
			birdPeer: func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "172.29.0.2" },
			want:     path{ASPath: ebgp},
		}, {
			name:     "over IPv6",
			frr:      []string{" bgp listen range 172.30.0.0/24", " bgp listen range fd30::/64"},
			bird:     []string{"neighbor range 172.30.0.0/24", "neighbor range fd30::/64"},
			frrPeer:  func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "fd30::1" },
			birdPeer: func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "fd30::2" },
			want:     path{ASPath: ebgp},
		}, {
			name: "unnumbered, FRR's way",
			frr: []string{
				" bgp listen range 172.30.0.0/24 peer-group fairlead", " neighbor eth0 interface peer-group fairlead",
			},
			frrPeer: func(s *v1beta1.BGPPeerSpec) {
				s.PeerAddress, s.Interface, s.NodeSelectors = "", "eth0", onlyOn("node1")
			},
			nodes: map[string]bool{"node1": true}, birdNodes: nodes, want: path{ASPath: ebgp},
		}, {
			name:    "the default gateway",
			frrPeer: func(s *v1beta1.BGPPeerSpec) { s.PeerAddress, s.PeerFrom = "", v1beta1.PeerFromDefaultGateway },
			want:    path{ASPath: ebgp},
		},
	}
}

// routeCases are about what is said of a route.
func routeCases() []bgpCase {
	return []bgpCase{
		{
			name: "communities, MED and a longer path",
			setUp: func(t *testing.T) {
				create(t, &v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: v1beta1.CommunitySpec{
					Communities: []v1beta1.CommunityAlias{{Name: "vpn-only", Value: "64512:77"}},
				}})
			},
			advertise: func(s *v1beta1.BGPAdvertisementSpec) {
				s.Communities = []v1beta1.CommunityText{"64512:100", "no-export", "vpn-only", "large:64512:1:2"}
				s.MED, s.ASPathPrepend = pointer(uint32(30)), 2
			},
			want: path{ASPath: "64512 64512 64512", MED: 30, Communities: "64512:100 64512:77 65535:65281", Large: "64512:1:2"},
		}, {
			name: "aggregation",
			advertise: func(s *v1beta1.BGPAdvertisementSpec) {
				s.AggregationLength, s.AggregationLengthV6 = pointer(int32(29)), pointer(int32(124))
			},
			prefixes: []netip.Prefix{netip.MustParsePrefix("172.30.0.192/29"), netip.MustParsePrefix("fd30::1c0/124")},
			want:     path{ASPath: ebgp},
		},
	}
}

// selectionCases are about who tells whom.
func selectionCases() []bgpCase {
	return []bgpCase{
		{
			name:      "some nodes announce",
			advertise: func(s *v1beta1.BGPAdvertisementSpec) { s.NodeSelectors = onlyOn("node1", "node3") },
			nodes:     map[string]bool{"node1": true, "node3": true}, want: path{ASPath: ebgp},
		}, {
			name:    "some nodes have a session",
			frrPeer: func(s *v1beta1.BGPPeerSpec) { s.NodeSelectors = onlyOn("node2") },
			nodes:   map[string]bool{"node2": true}, birdNodes: nodes, want: path{ASPath: ebgp},
		}, {
			name:      "some peers are told",
			advertise: func(s *v1beta1.BGPAdvertisementSpec) { s.Peers = []string{"frr"} },
			none:      map[string]bool{bird.host: true}, want: path{ASPath: ebgp},
		},
	}
}

// What users write about peers and advertisements is what FRR and BIRD have in their tables, and remote gets answers
// through the router.
func TestRouters(t *testing.T) {
	routed(t)
	for _, test := range bgpCases() {
		t.Run(test.name, func(t *testing.T) { test.run(t) })
	}
}

func (c bgpCase) run(t *testing.T) {
	asn := func(r router) router {
		if c.asn != 0 {
			r.asn = c.asn
		}
		return r
	}
	if c.frr != nil {
		frr.with(t, asn(frr).asn, c.frr...)
	}
	if c.bird != nil {
		bird.with(t, asn(bird).asn, c.bird...)
	}
	if c.setUp != nil {
		c.setUp(t)
	}
	advertisement := newAdvertisement("routed")
	for _, f := range []func(*v1beta1.BGPAdvertisementSpec){c.advertise} {
		if f != nil {
			f(&advertisement.Spec)
		}
	}
	create(t, advertisement)
	c.createPeer(t, newPeer("frr", asn(frr)), c.frrPeer)
	c.createPeer(t, newPeer("bird", asn(bird)), c.birdPeer)
	t.Cleanup(func() { explain(t) })
	c.inTables(t)
	if _, err := fetch(t.Context(), "remote", url(routed4, "/hostname")); err != nil {
		t.Error(err)
	}
	if c.check != nil {
		c.check(t)
	}
}

// explain shows both ends of the sessions if the test failed.
func explain(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, args := range [][]string{
		{"kubectl", "get", "speakers", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.status.peers}{" "}{.status.routes}{"\n"}{end}`},
		{"exec", "router", "--", "vtysh", "-c", "show bgp ipv4 unicast summary"},
		{"exec", "router", "--", "vtysh", "-c", "show bgp ipv4 unicast"},
		{"exec", "router2", "--", "birdc", "show", "route"},
	} {
		out, _ := tryLab(context.WithoutCancel(t.Context()), args...) // it is shown as it is
		t.Logf("%s\n%s", args[len(args)-1], out)
	}
}

func (c bgpCase) createPeer(t *testing.T, peer *v1beta1.BGPPeer, more func(*v1beta1.BGPPeerSpec)) {
	t.Helper()
	for _, f := range []func(*v1beta1.BGPPeerSpec){c.peer, more} {
		if f != nil {
			f(&peer.Spec)
		}
	}
	create(t, peer)
}

// inTables waits until both routers have the paths.
func (c bgpCase) inTables(t *testing.T) {
	t.Helper()
	prefixes := c.prefixes
	if len(prefixes) == 0 {
		prefixes = []netip.Prefix{netip.PrefixFrom(routed4, 32), netip.PrefixFrom(routed6, 128)}
	}
	for _, r := range []router{frr, bird} {
		for _, prefix := range prefixes {
			want := c.pathsAt(r)
			eventually(t, 20*time.Second, fmt.Sprintf("%s has %s", r.host, prefix), func(ctx context.Context) error {
				got, err := r.paths(ctx, prefix)
				if err != nil {
					return err
				}
				for i := range got {
					if c.want.LocalPref == 0 {
						got[i].LocalPref = 0
					}
					if strings.HasPrefix(got[i].Via, "fe80:") { // unnumbered
						got[i].Via = "node1"
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					return fmt.Errorf("paths (-want +got):\n%s", diff)
				}
				return nil
			})
		}
	}
}

func (c bgpCase) pathsAt(r router) []path {
	var want []path
	for _, node := range nodes {
		has := len(c.nodes) == 0 || c.nodes[node]
		if r.host == bird.host && c.birdNodes != nil {
			has = slices.Contains(c.birdNodes, node)
		}
		if has && !c.none[r.host] {
			p := c.want
			p.Via = node
			want = append(want, p)
		}
	}
	return want
}

// everyNodeCarries checks that both routers spread connections over all nodes, and that remote gets answers through each.
func everyNodeCarries(t *testing.T) {
	for _, r := range []router{frr, bird} {
		for _, addr := range []netip.Addr{routed4, routed6} {
			eventually(t, 10*time.Second, r.host+" uses every node", func(ctx context.Context) error {
				hops, err := kernelHops(ctx, r.host, addr)
				if err == nil && !slices.Equal(hops, nodes) {
					err = fmt.Errorf("%s spreads %s over %v", r.host, addr, hops)
				}
				return err
			})
		}
	}
	for host, gateways := range map[string][]string{"router": nil, "router2": {"172.31.0.2", "fd31::2"}} {
		t.Run("through "+host, func(t *testing.T) {
			for i, gateway := range gateways {
				addr := []netip.Addr{routed4, routed6}[i].String()
				lab(t, "exec", "remote", "--", "ip", "route", "add", addr, "via", gateway)
				t.Cleanup(func() {
					_, _ = tryLab(context.WithoutCancel(t.Context()), "exec", "remote", "--", "ip", "route", "del", addr)
				})
			}
			for _, addr := range []netip.Addr{routed4, routed6} {
				carried(t, addr)
			}
		})
	}
}

// carried fetches from remote and checks that the packets of every node were among those that came in.
func carried(t *testing.T, addr netip.Addr) {
	t.Helper()
	flush := []string{"conntrack", "-D", "--orig-dst", addr.String()}
	if addr.Is6() {
		flush = append(flush, "-f", "ipv6")
	}
	for _, node := range nodes {
		_, _ = tryLab(t.Context(), append([]string{"exec", node, "--"}, flush...)...) // fails if there is none
	}
	lab(t, "exec", "remote", "--", "sh", "-c",
		fmt.Sprintf("for i in $(seq 40); do curl -sS --fail --max-time 3 %s >/dev/null || exit 1; done", url(addr, "/hostname")))
	counts := map[string]int{}
	for _, node := range nodes {
		list := slices.Clone(flush)
		list[1] = "-L"
		counts[node] = strings.Count(lab(t, append([]string{"exec", node, "--"}, list...)...), "dport=80 ")
	}
	for _, node := range nodes {
		if counts[node] == 0 {
			t.Errorf("40 connections to %s were carried by %v, want all nodes", addr, counts)
			return
		}
	}
	t.Logf("40 connections to %s: conntrack entries %v", addr, counts)
}

// behindTheRouters gives each router an address that the nodes reach through it only.
func behindTheRouters(t *testing.T) {
	for i, r := range []router{frr, bird} {
		far := fmt.Sprintf("172.29.0.%d/32", i+1)
		undo := [][]string{{"exec", r.host, "--", "ip", "addr", "del", far, "dev", "lo"}}
		lab(t, "exec", r.host, "--", "ip", "addr", "add", far, "dev", "lo")
		for _, node := range nodes {
			lab(t, "exec", node, "--", "ip", "route", "add", far, "via", r.address)
			undo = append(undo, []string{"exec", node, "--", "ip", "route", "del", far})
		}
		t.Cleanup(func() {
			for _, args := range undo {
				if out, err := tryLab(context.WithoutCancel(t.Context()), args...); err != nil {
					t.Errorf("%v: %v %s", args, err, out)
				}
			}
		})
	}
}

// Under externalTrafficPolicy Local only nodes with a ready endpoint attract traffic, also through a prefix.
func TestRoutersLeadToLocalEndpoints(t *testing.T) {
	routed(t, func(s *corev1.ServiceSpec) {
		s.ExternalTrafficPolicy, s.Selector = corev1.ServiceExternalTrafficPolicyLocal, nil
	})
	create(t, newEndpointOn(t, "node2"))
	c := bgpCase{
		want: path{ASPath: ebgp}, nodes: map[string]bool{"node2": true},
		advertise: func(s *v1beta1.BGPAdvertisementSpec) { s.AggregationLength = pointer(int32(29)) },
		prefixes:  []netip.Prefix{netip.PrefixFrom(routed4, 32)},
	}
	c.run(t)
}

// newEndpointOn is an EndpointSlice for the Service routed with the sample's pod on one node.
func newEndpointOn(t *testing.T, node string) *discoveryv1.EndpointSlice {
	t.Helper()
	var pods corev1.PodList
	if err := cluster.List(t.Context(), &pods, client.InNamespace("default"), client.MatchingLabels{"app": "web"}); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.Spec.NodeName != node {
			continue
		}
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "routed-by-hand", Labels: map[string]string{discoveryv1.LabelServiceName: "routed"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{pod.Status.PodIP}, NodeName: pointer(node)}},
			Ports:       []discoveryv1.EndpointPort{{Name: pointer("http"), Port: pointer(int32(8080))}},
		}
	}
	t.Fatalf("the sample has no pod on %s", node)
	return nil
}
