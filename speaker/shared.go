package main

import (
	"maps"
	"net/netip"
	"slices"
)

// shared is a set of addresses that several Services may have, each as long as one of them has it.
type shared struct {
	count map[netip.Addr]int
	given map[string][]netip.Addr // by Service
	order []netip.Addr            // the set, sorted; nil: to be sorted again
}

func newShared() *shared {
	return &shared{count: map[netip.Addr]int{}, given: map[string][]netip.Addr{}}
}

// give makes addresses the ones that a Service has, and tells whether that is new.
func (s *shared) give(key string, addresses []netip.Addr) bool {
	if slices.Equal(s.given[key], addresses) {
		return false
	}
	s.order = nil
	for _, addr := range addresses {
		s.count[addr]++
	}
	for _, addr := range s.given[key] {
		if s.count[addr]--; s.count[addr] == 0 {
			delete(s.count, addr)
		}
	}
	if len(addresses) == 0 {
		delete(s.given, key)
		return true
	}
	s.given[key] = addresses
	return true
}

// addresses returns the set, sorted: a copy.
func (s *shared) addresses() []netip.Addr {
	if s.order == nil {
		s.order = slices.SortedFunc(maps.Keys(s.count), netip.Addr.Compare)
	}
	return slices.Clone(s.order)
}
