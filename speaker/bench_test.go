package main

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// BenchmarkDecide is what one round decides about 5,000 addresses in a cluster of three nodes: those that are in the
// nodes' subnet, and those that no node can announce.
func BenchmarkDecide(b *testing.B) {
	for _, subnet := range []string{"10.200.0.0/16", "192.0.2.0/24"} {
		b.Run("subnet "+subnet, func(b *testing.B) {
			w := crowdedWorld(5000, netip.MustParsePrefix(subnet))
			b.ReportAllocs()
			for b.Loop() {
				if verdicts := Decide(w); len(verdicts) != 5000 {
					b.Fatalf("%d verdicts", len(verdicts))
				}
			}
		})
	}
}

// crowdedWorld has Services with addresses from 10.200.0.1 on, and three nodes in a subnet that tell of those they own.
func crowdedWorld(services int, subnet netip.Prefix) World {
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"10.200.0.0/16"}
	w := World{Node: "node1"}
	w.Config, _ = config.Read(config.Objects{Pools: []v1beta1.IPAddressPool{pool}})
	addr := netip.MustParseAddr("10.200.0.0")
	for i := range services {
		addr = addr.Next()
		w.Services = append(w.Services, Service{Key: fmt.Sprintf("default/s%05d", i), Addresses: []netip.Addr{addr}})
	}
	for n := range 3 {
		name := fmt.Sprintf("node%d", n+1)
		w.Nodes = append(w.Nodes, Node{Name: name})
		w.Members = append(w.Members, Member{Name: name, Meta: Meta{Links: []MetaLink{
			{Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:00:%02x", n+1), Subnets: []netip.Prefix{subnet}},
		}}})
	}
	return w
}
