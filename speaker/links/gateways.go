package links

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// gateway is a way out of this node, with the metric of its route.
type gateway struct {
	address netip.Addr
	link    int
	metric  uint32
}

// Gateways returns where the default routes of this network namespace's main table lead to,
// IPv4 first, then by metric, with a zone if it is link-local; none if there are none.
func Gateways() ([]netip.Addr, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	defer conn.Close()
	msgs, err := dump(conn, unix.RTM_GETROUTE, unix.SizeofRtMsg)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var all []gateway
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWROUTE {
			continue
		}
		found, err := parseDefault(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read route: %w", err)
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b gateway) int {
		return cmp.Or(cmp.Compare(a.address.BitLen(), b.address.BitLen()), cmp.Compare(a.metric, b.metric))
	})
	var addresses []netip.Addr
	for _, g := range all {
		if address := g.zoned(); !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// zoned is the address with its link's name as zone if it needs one.
func (g gateway) zoned() netip.Addr {
	if iface, err := net.InterfaceByIndex(g.link); err == nil && g.address.IsLinkLocalUnicast() && g.address.Is6() {
		return g.address.WithZone(iface.Name)
	}
	return g.address
}

// parseDefault returns the gateways of a route, several if it has several next hops, none if
// it is no default route of the main table.
func parseDefault(b []byte) ([]gateway, error) {
	if len(b) < unix.SizeofRtMsg {
		return nil, errShort
	}
	if b[1] != 0 || b[4] != unix.RT_TABLE_MAIN || b[7] != unix.RTN_UNICAST {
		return nil, nil
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	if err != nil {
		return nil, err
	}
	var one gateway
	var hops []gateway
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_GATEWAY:
			one.address, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.RTA_OIF:
			one.link = int(ad.Uint32())
		case unix.RTA_PRIORITY:
			one.metric = ad.Uint32()
		case unix.RTA_MULTIPATH:
			if hops, err = parseHops(ad.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	if one.address.IsValid() {
		hops = append(hops, one)
	}
	for i := range hops {
		hops[i].metric = one.metric
	}
	return hops, ad.Err()
}

// parseHops reads a list of struct rtnexthop, each with attributes of its own.
func parseHops(b []byte) ([]gateway, error) {
	var hops []gateway
	for len(b) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(b[:2]))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return nil, errShort
		}
		hop := gateway{link: int(binary.NativeEndian.Uint32(b[4:8]))}
		ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtNexthop:length])
		if err != nil {
			return nil, err
		}
		for ad.Next() {
			if ad.Type() == unix.RTA_GATEWAY {
				hop.address, _ = netip.AddrFromSlice(ad.Bytes())
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
		if hop.address.IsValid() {
			hops = append(hops, hop)
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return hops, nil
}
