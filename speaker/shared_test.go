package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestShared gives and takes at random: the set is always what Services have, sorted, however it was made.
func TestShared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, have := newShared(), map[string][]netip.Addr{}
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.SampledFrom([]int{1, 2, 300}).Draw(t, "changes") {
				key := fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "Service"))
				var addrs []netip.Addr
				for range rapid.IntRange(0, 2).Draw(t, "addresses") {
					addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "address")}))
				}
				if changed := s.give(key, addrs); changed == slices.Equal(have[key], addrs) {
					t.Fatalf("%s from %v to %v: changed is %t", key, have[key], addrs, changed)
				}
				have[key] = addrs
			}
			var want []netip.Addr
			for _, addrs := range have {
				want = append(want, addrs...)
			}
			slices.SortFunc(want, netip.Addr.Compare)
			if diff := cmp.Diff(slices.Compact(want), s.addresses(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("addresses (-want +got):\n%s", diff)
			}
		}
	})
}
