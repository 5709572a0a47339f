package nft

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

// crowd is n Services of one port each with so many endpoints.
func crowd(n, each int) map[string]Service {
	out := make(map[string]Service, n)
	for i := range n {
		out[fmt.Sprintf("ns/svc-%d", i)] = member(i, each)
	}
	return out
}

func member(i, each int) Service {
	vip := netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})
	s := Service{Created: int64(i), Addresses: []netip.Addr{vip}, Targets: []Target{{}}}
	for e := range each {
		n := i*each + e
		s.Targets[0].Endpoints = append(s.Targets[0].Endpoints,
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), 8080))
	}
	s.Frontends = []Frontend{
		{Addr: vip, Proto: TCP, Port: 80, Kind: Cluster, Target: 0, Short: None},
		{Addr: netip.IPv4Unspecified(), Proto: TCP, Port: uint16(1024 + i), Kind: External, Target: 0, Short: None},
	}
	return s
}

func mustApply(b *testing.B, t *Table, w Wish) Report {
	b.Helper()
	rep, err := t.Apply(context.Background(), w)
	if err != nil {
		b.Fatal(err)
	}
	return rep
}

var sizes = []int{100, 1000, 10000, 30000}

// BenchmarkLoad is a cold start: nothing in the kernel yet.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		all := crowd(n, 10)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSpace(b)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s.do(func() error { return Cleanup(context.Background()) })
				t := s.begin(nil)
				b.StartTimer()
				rep := mustApply(b, t, full(all))
				b.StopTimer()
				s.end(t)
				b.ReportMetric(float64(rep.Added), "elements")
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRestart reads everything back and finds nothing to do.
func BenchmarkRestart(b *testing.B) {
	for _, n := range sizes {
		all := crowd(n, 10)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSpace(b)
			t := s.open(nil)
			mustApply(b, t, full(all))
			for b.Loop() {
				if rep := mustApply(b, t, full(all)); rep.Transactions != 0 {
					b.Fatalf("changed %+v", rep)
				}
			}
		})
	}
}

// BenchmarkEndpoint replaces one endpoint of one Service.
func BenchmarkEndpoint(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchChange(b, n, 10, false) })
	}
	b.Run("1000-endpoints", func(b *testing.B) { benchChange(b, 10, 1000, false) })
}

// BenchmarkScale adds an endpoint to one Service, and takes it away again.
func BenchmarkScale(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchChange(b, n, 10, true) })
	}
}

func benchChange(b *testing.B, n, each int, scale bool) {
	s := newSpace(b)
	t := s.open(nil)
	mustApply(b, t, full(crowd(n, each)))
	one, other := member(n/2, each), member(n/2, each)
	extra := netip.MustParseAddrPort("10.250.0.1:8080")
	if scale {
		other.Targets[0].Endpoints = append(other.Targets[0].Endpoints, extra)
	} else {
		other.Targets[0].Endpoints[each/2] = extra
	}
	name := fmt.Sprintf("ns/svc-%d", n/2)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		svc := one
		if i%2 == 0 {
			svc = other
		}
		i++
		mustApply(b, t, Wish{Static: sampleStatic, Changed: map[string]Service{name: svc}})
	}
}
