package nft

import "net/netip"

// clean leaves out what could not be programmed: invalid addresses, duplicate frontends, targets
// that do not exist or are of another family than the frontend.
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
		f.Target = s.usable(f.Target, f.Addr)
		f.Short = s.usable(f.Short, f.Addr)
		kept[i] = len(fronts)
		fronts = append(fronts, f)
	}
	s.Frontends = fronts
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

func (s Service) usable(target int, addr netip.Addr) int {
	if target < 0 || target >= len(s.Targets) || len(s.Targets[target].Endpoints) == 0 {
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
