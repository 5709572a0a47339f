// Package links knows the network interfaces of this node: a snapshot of all of them
// with their addresses, read from the kernel over route netlink, and a bell for every
// change. It never polls, changes nothing, and decides only one thing: whether a link
// could carry an announcement at all.
//
// Out of scope: which link an address belongs on (the caller decides), the sockets on
// a link (l2), routes and neighbours of other hosts.
package links

import (
	"net"
	"net/netip"
)

// Link is one network interface as it was at one moment. Two snapshots of an unchanged
// link are deeply equal.
type Link struct {
	Index    int
	Name     string
	Kind     string           // IFLA_INFO_KIND: "veth", "bridge", "vlan", "bond", "macvlan"…; "device" for plain hardware
	MAC      net.HardwareAddr // nil where the link has none
	MTU      int
	Up       bool           // IFF_UP: an administrator wants it
	LowerUp  bool           // IFF_LOWER_UP: it has a carrier
	Running  bool           // IFF_RUNNING: and frames are really sent; comes a moment after the carrier, or when a port is authorized
	Loopback bool           // IFF_LOOPBACK
	NoARP    bool           // IFF_NOARP
	Wireless bool           // an 802.11 station, whose access point filters what the station did not ask for
	Master   int            // index of the bridge, bond or VRF it belongs to, 0 for none
	Carriers uint32         // how often the carrier came or went: a link that flapped between two snapshots shows it here
	Port     bool           // Master is a bridge, bond or team, so that packets reach the master, not this link
	Prefixes []netip.Prefix // addresses with their prefix lengths, both families, sorted, no tentative or failed ones
}

// Contains says whether addr lies in a subnet of the link. Link-local and host-length
// prefixes (/32, /128) are no subnets: nothing of a LAN lies in them.
func (l Link) Contains(addr netip.Addr) bool {
	for _, p := range l.Prefixes {
		if !p.Addr().IsLinkLocalUnicast() && !p.IsSingleIP() && p.Contains(addr) {
			return true
		}
	}
	return false
}

// Unusable says, for people, why nothing can be announced on the link, and is empty for
// a link that can carry announcements. It speaks of the link alone, not of an address.
func (l Link) Unusable() string {
	switch {
	case l.Loopback:
		return "is a loopback interface"
	case len(l.MAC) != 6:
		return "has no Ethernet address"
	case l.NoARP:
		return "does neither ARP nor NDP (NOARP)"
	case l.Port:
		return "is a port of a bridge or bond"
	case !l.Up:
		return "is set down"
	case !l.LowerUp:
		return "has no carrier"
	case !l.Running:
		return "is not running yet"
	case l.Kind == "veth" && !l.hasSubnet():
		return "is a veth without a subnet, as pods have"
	}
	return ""
}

// Usable says whether the link can carry announcements: Unusable has nothing against it.
func (l Link) Usable() bool { return l.Unusable() == "" }

func (l Link) hasSubnet() bool {
	for _, p := range l.Prefixes {
		if !p.Addr().IsLinkLocalUnicast() && !p.IsSingleIP() {
			return true
		}
	}
	return false
}
