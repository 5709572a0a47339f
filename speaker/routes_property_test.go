package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// drawnWorld is what a world of drawn objects is made from.
type drawnWorld struct {
	objects  config.Objects
	nodes    []Node
	services []Service
	members  []Member
}

var sides = []labels.Set{{"side": "a"}, {"side": "b"}, nil}

func drawSelectors(t *rapid.T, name string) []metav1.LabelSelector {
	return rapid.SampledFrom([][]metav1.LabelSelector{
		nil, nil, {{MatchLabels: labels.Set{"side": "a"}}}, {{MatchLabels: labels.Set{"side": "b"}}},
	}).Draw(t, name)
}

func drawWorld(t *rapid.T) drawnWorld {
	var d drawnWorld
	d.objects.Pools = []v1beta1.IPAddressPool{
		{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.0/24", "fd00::/120"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "two", Labels: labels.Set{"side": "a"}}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.1.0-10.0.1.20"}}},
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		node := Node{Name: fmt.Sprint("node", i), Labels: rapid.SampledFrom(sides).Draw(t, "side of node")}
		if rapid.IntRange(0, 5).Draw(t, "excluded") == 0 {
			node.Excluded = "it is excluded"
		}
		if rapid.IntRange(0, 3).Draw(t, "leaving") == 0 {
			node.Leaving = "it is cordoned"
		}
		d.nodes = append(d.nodes, node)
		d.members = append(d.members, Member{Name: node.Name, Life: rapid.SampledFrom([]Life{Alive, Alive, Dead}).Draw(t, "life")})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "peers") {
		d.objects.Peers = append(d.objects.Peers, v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("peer", i)}, Spec: v1beta1.BGPPeerSpec{
			MyASN: 1, PeerASN: 2, PeerAddress: fmt.Sprint("10.9.0.", rapid.IntRange(1, 3).Draw(t, "peer address")),
			DualStackAddressFamily: rapid.Bool().Draw(t, "dual"), NodeSelectors: drawSelectors(t, "nodes of peer"),
		}})
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "advertisements") {
		spec := v1beta1.BGPAdvertisementSpec{
			NodeSelectors: drawSelectors(t, "nodes of advertisement"), ServiceSelectors: drawSelectors(t, "services"),
			IPAddressPoolSelectors: drawSelectors(t, "pools"), Peers: rapid.SampledFrom([][]string{nil, {"peer0"}, {"peer1", "peer2"}}).Draw(t, "peers told"),
			Communities: rapid.SampledFrom([][]v1beta1.CommunityText{nil, {"1:2"}, {"1:1", "large:1:2:3"}}).Draw(t, "communities"),
		}
		length, pref := rapid.SampledFrom([]int32{32, 30, 24, 20}).Draw(t, "length"), rapid.Uint32Range(0, 3).Draw(t, "localPref")
		spec.AggregationLength, spec.LocalPref = &length, &pref
		d.objects.BGP = append(d.objects.BGP, v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("adv", i)}, Spec: spec})
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "Services") {
		d.services = append(d.services, drawService(t, fmt.Sprint("default/service", i), d.nodes))
	}
	return d
}

func drawService(t *rapid.T, key string, nodes []Node) Service {
	service := Service{
		Key: key, Labels: rapid.SampledFrom(sides).Draw(t, "side of Service"), Local: rapid.Bool().Draw(t, "local"),
		Addresses: []netip.Addr{netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.1.7", "fd00::1", "10.7.7.7"}).Draw(t, "address"))},
	}
	on := map[string]bool{}
	for _, node := range nodes {
		if rapid.IntRange(0, 2).Draw(t, "endpoint") == 0 {
			on[node.Name] = true
		}
	}
	service.HasEndpoints = len(on) > 0
	if service.Local {
		service.EndpointsOn = on
	}
	return service
}

func (d drawnWorld) world(node string) World {
	w := World{Node: node, Nodes: d.nodes, Services: d.services, Members: d.members}
	w.Config, _ = config.Read(d.objects)
	return w
}

// shuffled returns the same world, written in another order.
func (d drawnWorld) shuffled(seed uint64) drawnWorld {
	r := rand.New(rand.NewPCG(seed, 0))
	d.services, d.members = mix(r, d.services), mix(r, d.members)
	d.objects.Peers, d.objects.BGP, d.objects.Pools = mix(r, d.objects.Peers), mix(r, d.objects.BGP), mix(r, d.objects.Pools)
	return d
}

func mix[T any](r *rand.Rand, all []T) []T {
	all = slices.Clone(all)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// same compares values with addresses in them.
func same(a, b any) string {
	return cmp.Diff(a, b, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func TestRoutesDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawWorld(t)
		other := d.shuffled(rapid.Uint64().Draw(t, "seed"))
		for _, node := range d.nodes {
			if diff := same(Routes(d.world(node.Name)), Routes(other.world(node.Name))); diff != "" {
				t.Fatalf("%s (-one order +another):\n%s", node.Name, diff)
			}
		}
	})
}

// TestServicesTouchNoSession asserts that no change of Services changes what a session is, and that a room would do
// nothing but announce and withdraw.
func TestServicesTouchNoSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawWorld(t)
		w := d.world("node0")
		before := Routes(w)
		w.Services = nil
		for i := range rapid.IntRange(0, 8).Draw(t, "Services after") {
			w.Services = append(w.Services, drawService(t, fmt.Sprint("default/service", i), d.nodes))
		}
		for _, change := range bgp.Plan(before.Wish, Routes(w).Wish) {
			if change.Action != bgp.Keep {
				t.Fatalf("%s: %s", change.Key, change.Action)
			}
		}
	})
}

// TestRoutesLeadToEndpoints asserts what routers rely on: they send an address by the longest prefix, and every node they
// may then send it to can serve it, if any node that has a route for it can.
func TestRoutesLeadToEndpoints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawWorld(t)
		told := map[string]map[netip.Prefix][]string{} // by peer and prefix: nodes
		for _, node := range d.nodes {
			for peer, routes := range Routes(d.world(node.Name)).Wish.Routes {
				if told[peer] == nil {
					told[peer] = map[netip.Prefix][]string{}
				}
				last := netip.Prefix{}
				for _, route := range routes {
					if route.Prefix == last {
						t.Fatalf("%s tells %s of %s twice", node.Name, peer, last)
					}
					last = route.Prefix
					told[peer][route.Prefix] = append(told[peer][route.Prefix], node.Name)
				}
			}
		}
		w := d.world("node0")
		for _, service := range w.Services {
			if !service.Local || len(service.EndpointsOn) == 0 || w.stranded(service) {
				continue
			}
			for peer, routes := range told {
				for _, node := range longest(routes, service.Addresses[0]) {
					if !service.EndpointsOn[node] {
						t.Fatalf("%s sends %s of %s to %s, which has no endpoint: %v", peer, service.Addresses[0], service.Key, node, routes)
					}
				}
			}
		}
	})
}

// TestDrainLosesNothing asserts that an address that a peer learns from a living node it learns from one also after all
// nodes that leave had their time.
func TestDrainLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawWorld(t)
		told := func(drained bool) map[string]bool {
			found := map[string]bool{}
			for i, node := range d.nodes {
				w := d.world(node.Name)
				w.Now = time.Unix(1_000_000, 0)
				if drained {
					w.DrainingSince = w.Now.Add(-time.Hour)
				}
				for peer, addrs := range Routes(w).Told {
					for _, addr := range addrs {
						if d.members[i].Life == Alive {
							found[peer+" "+addr.String()] = true
						}
					}
				}
			}
			return found
		}
		if diff := cmp.Diff(told(false), told(true)); diff != "" {
			t.Fatalf("told (-before +after):\n%s", diff)
		}
	})
}

// longest returns the nodes that a router sends an address to.
func longest(routes map[netip.Prefix][]string, addr netip.Addr) []string {
	for bits := addr.BitLen(); bits > 0; bits-- {
		if nodes := routes[netip.PrefixFrom(addr, bits).Masked()]; len(nodes) > 0 {
			return nodes
		}
	}
	return nil
}

// stranded tells whether a Service shares its address with one that has its endpoints on other nodes, or no
// advertisement is about its address at all: then no route is for it.
func (w World) stranded(service Service) bool {
	addr := service.Addresses[0]
	for _, other := range w.Services {
		if other.Key != service.Key && other.Addresses[0] == addr {
			return true
		}
	}
	return w.Config.BGPFor(config.BGPQuery{Addr: addr, Kind: v1beta1.AddressLoadBalancer, Service: service.Labels}).Reason == ""
}

func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d Services", n), func(b *testing.B) {
			w := World{Node: "node0"}
			objects := config.Objects{Pools: []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.0/16"}}}}}
			for i := range 100 {
				w.Nodes = append(w.Nodes, Node{Name: fmt.Sprint("node", i)})
				w.Members = append(w.Members, Member{Name: fmt.Sprint("node", i)})
			}
			for i := range 4 {
				objects.Peers = append(objects.Peers, v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("peer", i)}, Spec: v1beta1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: fmt.Sprint("10.9.0.", i+1)}})
			}
			objects.BGP = []v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}, {ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: v1beta1.BGPAdvertisementSpec{Communities: []v1beta1.CommunityText{"1:1"}}}}
			w.Config, _ = config.Read(objects)
			addr := netip.MustParseAddr("10.0.0.0")
			for i := range n {
				addr = addr.Next()
				w.Services = append(w.Services, Service{Key: fmt.Sprintf("default/service%05d", i), Addresses: []netip.Addr{addr}, HasEndpoints: true})
			}
			b.ReportAllocs()
			for b.Loop() {
				if plan := Routes(w); len(plan.Wish.Routes["peer0"]) != n {
					b.Fatalf("%d routes", len(plan.Wish.Routes["peer0"]))
				}
			}
		})
	}
}
