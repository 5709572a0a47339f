package config

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Family is an address family: 4 or 6.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address; an IPv4 address dressed as IPv6 is IPv6.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

func familyFrom(family corev1.IPFamily) Family {
	if family == corev1.IPv6Protocol {
		return IPv6
	}
	return IPv4
}
