package nft

import (
	"net/netip"
	"slices"
)

// clean leaves out what could not be programmed: invalid addresses, duplicate frontends, targets
// that do not exist, are of another family than the frontend, or are not used.
func (s Service) clean() Service {
	seen := make(map[frontKey]bool, len(s.Frontends))
	fronts := make([]Frontend, 0, len(s.Frontends))
	kept := make(map[int]int, len(s.Frontends))
	for i, f := range s.Frontends {
		if !f.Addr.IsValid() || f.Port == 0 || seen[f.key()] {
			continue
		}
		seen[f.key()] = true
		f.Addr = f.Addr.Unmap()
		f.Target = s.usable(f.Target, f.Addr, f.Kind != Reject && f.Kind != Drop)
		f.Short = s.usable(f.Short, f.Addr, f.Kind == Local)
		kept[i] = len(fronts)
		fronts = append(fronts, f)
	}
	s.Frontends = fronts
	s.Targets = s.usedTargets()
	serving := make([]Serving, 0, len(s.Serving))
	for _, v := range s.Serving {
		var at []int
		for _, i := range v.Frontends {
			if j, ok := kept[i]; ok {
				at = append(at, j)
			}
		}
		serving = append(serving, Serving{Frontends: at, Endpoints: v.Endpoints})
	}
	s.Serving = serving
	s.Addresses = validAddrs(s.Addresses)
	s.Hairpin = validAddrs(s.Hairpin)
	return s
}

// usedTargets are the targets that a frontend leads to, with distinct and sorted
// endpoints. The frontends' indices follow.
func (s Service) usedTargets() []Target {
	index := make(map[int]int, len(s.Targets))
	out := make([]Target, 0, len(s.Targets))
	use := func(i int) int {
		if i == None {
			return None
		}
		at, known := index[i]
		if !known {
			at = len(out)
			index[i] = at
			out = append(out, s.Targets[i].clean())
		}
		return at
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		f.Target, f.Short = use(f.Target), use(f.Short)
	}
	return out
}

func (t Target) clean() Target {
	for i := 1; i < len(t.Endpoints); i++ {
		if t.Endpoints[i-1].Compare(t.Endpoints[i]) >= 0 {
			t.Endpoints = slices.Clone(t.Endpoints)
			slices.SortFunc(t.Endpoints, netip.AddrPort.Compare)
			t.Endpoints = slices.Compact(t.Endpoints)
			break
		}
	}
	return t
}

func (s Service) usable(target int, addr netip.Addr, wanted bool) int {
	if !wanted || target < 0 || target >= len(s.Targets) || len(s.Targets[target].Endpoints) == 0 {
		return None
	}
	for _, e := range s.Targets[target].Endpoints {
		if !e.IsValid() || familyOf(e.Addr()) != familyOf(addr) {
			return None
		}
	}
	return target
}

func validAddrs(in []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(in))
	for _, a := range in {
		if a.IsValid() {
			out = append(out, a.Unmap())
		}
	}
	return out
}
