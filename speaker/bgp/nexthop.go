package bgp

import (
	"net"
	"net/netip"
)

// nextHops are the addresses of this node that a peer shall send to, by family.
type nextHops map[Family]netip.Addr

// nextHops returns where the peer shall send each family to. local is our end of the
// session: it is the next hop of its own family, and of both if it is link-local
// (RFC 8950). For the other family it is the first address that local's interface has;
// if it has none, the family is missing.
func (p Peer) nextHops(local netip.Addr) nextHops {
	hops := nextHops{family(local): local.WithZone("")}
	if local.IsLinkLocalUnicast() && local.Is6() {
		hops[IPv4] = local.WithZone("")
	} else if other, ok := neighborAddress(local); ok {
		hops[family(other)] = other
	}
	for _, a := range p.NextHops {
		hops[family(a)] = a.WithZone("")
	}
	return hops
}

func family(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// neighborAddress returns the first global address of the other family on the interface
// that has the given one.
func neighborAddress(local netip.Addr) (netip.Addr, bool) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, i := range interfaces {
		var here bool
		var other netip.Addr
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := prefix.Addr()
			here = here || addr == local.WithZone("")
			if !other.IsValid() && addr.Is4() != local.Is4() && addr.IsGlobalUnicast() {
				other = addr
			}
		}
		if here {
			return other, other.IsValid()
		}
	}
	return netip.Addr{}, false
}
