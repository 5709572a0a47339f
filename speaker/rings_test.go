package main

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// ringed is a world of nodes on one LAN whose routers are told of one address of each family; node2 is in no zone.
func ringed(node string, lives ...Life) World {
	w := near(lives...)
	w.Node = node
	for _, m := range w.Members {
		n := Node{Name: m.Name, Labels: labels.Set{"zone": "a"}}
		if m.Name == "node2" {
			n.Labels = nil
		}
		w.Nodes = append(w.Nodes, n)
	}
	var objects config.Objects
	objects.Pools = []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"203.0.113.0/24", "2001:db8::/64"}}}}
	objects.BGP = []v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}}
	objects.Peers = []v1beta1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "router"}, Spec: v1beta1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: "192.168.10.1"}}}
	w.Config, _ = config.Read(objects)
	w.Services = []Service{{Key: "default/web", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}}}
	return w
}

func TestRings(t *testing.T) {
	inZone := config.Selectors{labels.SelectorFromSet(labels.Set{"zone": "a"})}
	tests := map[string]struct {
		node   string
		lives  []Life
		change func(*World)
		want   string // the next node's last digits, of both families
	}{
		"the next by name":                    {node: "node1", lives: []Life{Alive, Alive, Alive}, want: "102 102"},
		"the last is followed by the first":   {node: "node3", lives: []Life{Alive, Alive, Alive}, want: "101 101"},
		"past one that stays silent":          {node: "node1", lives: []Life{Alive, Dead, Alive}, change: func(w *World) { w.Members[1].Since = noon.Add(-time.Minute) }, want: "103 103"},
		"past one that fell silent just now":  {node: "node1", lives: []Life{Alive, Dead, Alive}, change: func(w *World) { w.Members[1].Since = noon }, want: "103 103"},
		"to one whose speaker restarts":       {node: "node1", lives: []Life{Alive, Left, Alive}, change: func(w *World) { w.Members[1].Since = noon }, want: "102 102"},
		"past one that said goodbye long ago": {node: "node1", lives: []Life{Alive, Left, Alive}, change: func(w *World) { w.Members[1].Since = noon.Add(-time.Minute) }, want: "103 103"},
		"past one that is shut down":          {node: "node1", lives: []Life{Alive, Left, Alive}, change: func(w *World) { w.Members[1].Since, w.Nodes[1].Leaving = noon, "cordoned" }, want: "103 103"},
		"to one that is drained":              {node: "node1", lives: []Life{Alive, Alive, Alive}, change: func(w *World) { w.Nodes[1].Leaving = "cordoned" }, want: "102 102"},
		"alone":                               {node: "node1", lives: []Life{Alive}},
		"past one without peers":              {node: "node1", lives: []Life{Alive, Alive, Alive}, change: func(w *World) { w.Config.Peers[0].Nodes = inZone }, want: "103 103"},
		"a node that may not announce":        {node: "node2", lives: []Life{Alive, Alive, Alive}, change: func(w *World) { w.Config.BGP[0].Nodes = inZone }},
		"past one that may not announce":      {node: "node1", lives: []Life{Alive, Alive, Alive}, change: func(w *World) { w.Config.BGP[0].Nodes = inZone }, want: "103 103"},
		"past one behind a router": {node: "node1", lives: []Life{Alive, Alive, Alive}, change: func(w *World) {
			w.Members[1].Meta.Links[0].Addresses = []netip.Addr{netip.MustParseAddr("192.168.20.102")}
		}, want: "103 103"},
		"no external addresses": {node: "node1", lives: []Life{Alive, Alive}, change: func(w *World) {
			w.Services[0].ExternalIPs, w.Services[0].Addresses = w.Services[0].Addresses, nil
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := ringed(test.node, test.lives...)
			if test.change != nil {
				test.change(&w)
			}
			var have []string
			next := rings(w)
			for _, addr := range []string{"203.0.113.1", "2001:db8::1"} {
				if to, ok := next[netip.MustParseAddr(addr)]; ok {
					have = append(have, to.String()[strings.LastIndexAny(to.String(), ".:")+1:])
				}
			}
			if diff := cmp.Diff(test.want, strings.Join(have, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func BenchmarkRings(b *testing.B) {
	w := ringed("node1", Alive, Alive, Alive)
	addr := netip.MustParseAddr("2001:db8::")
	for i := range 10_000 {
		addr = addr.Next()
		w.Services = append(w.Services, Service{Key: "default/more" + strconv.Itoa(i), Addresses: []netip.Addr{addr}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if next := rings(w); len(next) != 10_001 {
			b.Fatalf("%d addresses", len(next))
		}
	}
}
