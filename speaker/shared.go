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
	order []netip.Addr            // the set as it was when it was last asked for, sorted
	since []netip.Addr            // what has come or gone since
}

func newShared() *shared {
	return &shared{count: map[netip.Addr]int{}, given: map[string][]netip.Addr{}}
}

// give makes addresses the ones that a Service has, and tells whether that is new.
func (s *shared) give(key string, addresses []netip.Addr) bool {
	if slices.Equal(s.given[key], addresses) {
		return false
	}
	for _, addr := range addresses {
		s.count[addr]++
	}
	for _, addr := range s.given[key] {
		if s.count[addr]--; s.count[addr] == 0 {
			delete(s.count, addr)
		}
	}
	s.since = append(append(s.since, addresses...), s.given[key]...)
	if len(addresses) == 0 {
		delete(s.given, key)
		return true
	}
	s.given[key] = addresses
	return true
}

// addresses returns the set, sorted: a copy.
func (s *shared) addresses() []netip.Addr {
	const many = 32 // a sort costs as much as that many insertions for every so many elements
	if len(s.since) > len(s.order)/many {
		s.order = slices.SortedFunc(maps.Keys(s.count), netip.Addr.Compare)
		s.since = nil
	}
	for _, addr := range s.since {
		i, listed := slices.BinarySearchFunc(s.order, addr, netip.Addr.Compare)
		switch belongs := s.count[addr] > 0; {
		case belongs && !listed:
			s.order = slices.Insert(s.order, i, addr)
		case !belongs && listed:
			s.order = slices.Delete(s.order, i, i+1)
		}
	}
	s.since = nil
	return slices.Clone(s.order)
}
