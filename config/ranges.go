package config

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// ParseRange reads a CIDR ("192.168.10.0/24"), a range with both ends included ("192.168.10.5-192.168.10.20", blanks
// around the dash allowed) or one address, of either family. It refuses what the API server's rules refuse, and a range
// that ends before it begins, which they cannot see. The error says how to write it.
func ParseRange(text string) (netipx.IPRange, error) {
	none := netipx.IPRange{}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		return parsePrefix(text)
	}
	from, errFrom := parseAddr(strings.TrimSpace(first))
	to, errTo := parseAddr(strings.TrimSpace(last))
	switch {
	case errFrom != nil || errTo != nil:
		return none, notARange(text)
	case from.Is4() != to.Is4():
		return none, fmt.Errorf("%q begins in one address family and ends in the other: write two ranges, one of IPv4 and one of IPv6", text)
	case to.Less(from):
		return none, fmt.Errorf("%q ends before it begins: write %s-%s", text, to, from)
	}
	return netipx.IPRangeFrom(from, to), nil
}

func parsePrefix(text string) (netipx.IPRange, error) {
	if addr, err := parseAddr(text); err == nil {
		return netipx.IPRangeFrom(addr, addr), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netipx.IPRange{}, notARange(text)
	}
	if prefix != prefix.Masked() {
		return netipx.IPRange{}, fmt.Errorf("%q has bits set after its prefix: write %s for the one address, or %s for the whole network", text, prefix.Addr(), prefix.Masked())
	}
	return netipx.RangeOfPrefix(prefix), nil
}

// parseAddr reads an address as the API server's isIP does: no zone, no IPv4 dressed as IPv6.
func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is not an address", text)
	}
	return addr, nil
}

func notARange(text string) error {
	return fmt.Errorf("%q is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20", text)
}

// ParsePrefix reads a CIDR, with or without host bits, or one address, which becomes a prefix of full length.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := parseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR", text)
	}
	return prefix.Masked(), nil
}
