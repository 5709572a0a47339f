package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// crowd returns n Services over 50 pools, all but 1 % of which hold their address, as after a busy day: every tenth asks
// for its address by name, every tenth for a pool, every tenth is dual-stack, and every second pool is for some only.
// They are sorted, as the controller keeps them.
func crowd(n int) (config.Config, []ipam.Claim) {
	const pools = 50
	objects := config.Objects{}
	for i := range pools {
		pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pool-%02d", i)}}
		pool.Spec.Addresses = []v1beta1.AddressRange{
			v1beta1.AddressRange(fmt.Sprintf("10.%d.0.0/18", i)), v1beta1.AddressRange(fmt.Sprintf("fd00:%x::/64", i+1)),
		}
		if i%2 == 0 {
			pool.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{Priority: int32(1 + i), NamespaceSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"team": fmt.Sprint(i)}}}}
		}
		objects.Pools = append(objects.Pools, pool)
	}
	c, _ := config.Read(objects)
	claims := make([]ipam.Claim, n)
	for i := range claims {
		claims[i] = ipam.Claim{Wish: config.Wish{
			Service:  types.NamespacedName{Namespace: fmt.Sprintf("team-%02d", i*pools/n), Name: fmt.Sprintf("service-%05d", i)},
			Created:  time.Unix(int64(i), 0),
			Families: []config.Family{config.IPv4},
		}, NamespaceLabels: labels.Set{"team": fmt.Sprint(i * pools / n)}}
		if i%10 == 0 {
			claims[i].Families, claims[i].Need = []config.Family{config.IPv4, config.IPv6}, config.NeedAny
		}
	}
	return c, hold(c, claims)
}

// hold lets 99 of 100 claims hold what they were granted.
func hold(c config.Config, claims []ipam.Claim) []ipam.Claim {
	byName := map[types.NamespacedName]ipam.Grant{}
	for _, g := range ipam.Assign(c, claims, nil, time.Unix(0, 0)) {
		byName[g.Service] = g
	}
	for i := range claims {
		g := byName[claims[i].Service]
		switch {
		case i%100 == 0:
			continue
		case i%10 == 1:
			claims[i].Addresses = g.Addrs
		case i%10 == 2:
			claims[i].Pools = g.Pools[:1]
		}
		claims[i].Held, claims[i].From = g.Addrs, g.Pools
	}
	return claims
}

// BenchmarkAssign is one pass over n Services and 50 pools with 1 % new Services.
func BenchmarkAssign(b *testing.B) {
	for _, n := range []int{1000, 5000, 10000, 50000} {
		c, claims := crowd(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ipam.Assign(c, claims, nil, time.Unix(0, 0))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/Service")
		})
	}
}

// BenchmarkWaiting is one pass in which nobody gets anything: n Services wait for a second family that no pool has, and
// all have one sharing key and one port, so that none can join another.
func BenchmarkWaiting(b *testing.B) {
	for _, n := range []int{1000, 10000, 50000} {
		_, claims := crowd(n)
		c := ipv4Only()
		for i := range claims {
			claims[i].Families, claims[i].Need = []config.Family{config.IPv4, config.IPv6}, config.NeedAny
			claims[i].Addresses, claims[i].Pools, claims[i].Held, claims[i].From = nil, nil, nil, nil
			if i > 0 {
				claims[i].Held = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
			}
			claims[i].Sharing = config.Sharing{Key: "all", Ports: []config.Port{{Protocol: "TCP", Number: 80}}}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				ipam.Assign(c, claims, nil, time.Unix(0, 0))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/Service")
		})
	}
}

// ipv4Only returns 50 pools without IPv6.
func ipv4Only() config.Config {
	var objects config.Objects
	for i := range 50 {
		pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pool-%02d", i)}}
		pool.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("10.%d.0.0/16", i))}
		objects.Pools = append(objects.Pools, pool)
	}
	c, _ := config.Read(objects)
	return c
}
