package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// TableName is the name of our table in each family.
const TableName = "fairlead"

// family is IPv4 or IPv6; everything that differs between them is here.
type family uint8

const (
	v4 family = iota
	v6
)

var families = [...]family{v4, v6}

func familyOf(a netip.Addr) family {
	if a.Is4() || a.Is4In6() {
		return v4
	}
	return v6
}

func (f family) String() string { return [...]string{"ip", "ip6"}[f] }

func (f family) proto() uint8 { return [...]uint8{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}[f] }

func (f family) addrLen() uint32 { return [...]uint32{4, 16}[f] }

// saddr and daddr are offsets in the network header.
func (f family) saddr() uint32 { return [...]uint32{12, 8}[f] }
func (f family) daddr() uint32 { return [...]uint32{16, 24}[f] }

// hopLimit is the offset of the TTL or hop limit in the network header.
func (f family) hopLimit() uint32 { return [...]uint32{8, 7}[f] }

func (f family) addrType() nftables.SetDatatype {
	return [...]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}[f]
}

// portUnreachable is the ICMP code.
func (f family) portUnreachable() uint8 { return [...]uint8{3, 4}[f] }

func (f family) icmp() byte        { return [...]byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}[f] }
func (f family) echoRequest() byte { return [...]byte{8, 128}[f] }

// addr reads an address out of an element.
func (f family) addr(b string) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(b[:f.addrLen()]))
	return a
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() || a.Is4In6() {
		raw := a.As4()
		return append(b, raw[:]...)
	}
	raw := a.As16()
	return append(b, raw[:]...)
}
