package links

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	ifInfoLen = unix.SizeofIfInfomsg
	ifAddrLen = unix.SizeofIfAddrmsg
)

// Snapshot reads all links of this network namespace from the kernel, sorted by index.
// A change between its two questions (links, then addresses) rings the bell of Watch.
func Snapshot() ([]Link, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	defer conn.Close()
	found, err := dumpLinks(conn)
	if err != nil {
		return nil, err
	}
	prefixes, err := dumpPrefixes(conn)
	if err != nil {
		return nil, err
	}
	for i, l := range found {
		found[i].Prefixes = sortedPrefixes(prefixes[l.Index])
		found[i].Wireless = wireless(l.Name)
	}
	slices.SortFunc(found, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	return found, nil
}

func dumpLinks(conn *netlink.Conn) ([]Link, error) {
	msgs, err := dump(conn, unix.RTM_GETLINK, ifInfoLen)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var found []Link
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWLINK {
			continue
		}
		l, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read link: %w", err)
		}
		found = append(found, l)
	}
	return found, nil
}

func dumpPrefixes(conn *netlink.Conn) (map[int][]netip.Prefix, error) {
	msgs, err := dump(conn, unix.RTM_GETADDR, ifAddrLen)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	found := map[int][]netip.Prefix{}
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWADDR {
			continue
		}
		index, p, err := parsePrefix(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read address: %w", err)
		}
		if p.IsValid() {
			found[index] = append(found[index], p)
		}
	}
	return found, nil
}

func dump(conn *netlink.Conn, kind netlink.HeaderType, headerLen int) ([]netlink.Message, error) {
	return conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, headerLen),
	})
}

var errShort = errors.New("message too short")

func parseLink(b []byte) (Link, error) {
	if len(b) < ifInfoLen {
		return Link{}, errShort
	}
	flags := binary.NativeEndian.Uint32(b[8:12])
	l := Link{
		Index:    int(int32(binary.NativeEndian.Uint32(b[4:8]))),
		Kind:     "device",
		Up:       flags&unix.IFF_UP != 0,
		LowerUp:  flags&unix.IFF_LOWER_UP != 0,
		Running:  flags&unix.IFF_RUNNING != 0,
		Loopback: flags&unix.IFF_LOOPBACK != 0,
		NoARP:    flags&unix.IFF_NOARP != 0,
	}
	ad, err := netlink.NewAttributeDecoder(b[ifInfoLen:])
	if err != nil {
		return Link{}, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_ADDRESS:
			l.MAC = net.HardwareAddr(ad.Bytes())
		case unix.IFLA_MTU:
			l.MTU = int(ad.Uint32())
		case unix.IFLA_MASTER:
			l.Master = int(ad.Uint32())
		case unix.IFLA_CARRIER_CHANGES:
			l.Carriers = ad.Uint32()
		case unix.IFLA_LINKINFO:
			ad.Nested(l.parseInfo)
		}
	}
	// A tunnel has no hardware address, or one that is all zeroes, or an IP address in its place.
	if len(l.MAC) != 6 || slices.Max(l.MAC) == 0 {
		l.MAC = nil
	}
	return l, ad.Err()
}

func (l *Link) parseInfo(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			l.Kind = ad.String()
		case unix.IFLA_INFO_SLAVE_KIND:
			// A VRF only chooses the routing table of its members, which receive
			// their own packets; bridges, bonds and teams take theirs away.
			l.Port = ad.String() != "vrf"
		}
	}
	return ad.Err()
}

// parsePrefix returns an invalid prefix for an address that is not (yet) in use.
func parsePrefix(b []byte) (int, netip.Prefix, error) {
	if len(b) < ifAddrLen {
		return 0, netip.Prefix{}, errShort
	}
	bits, flags := int(b[1]), uint32(b[2])
	index := int(binary.NativeEndian.Uint32(b[4:8]))
	ad, err := netlink.NewAttributeDecoder(b[ifAddrLen:])
	if err != nil {
		return 0, netip.Prefix{}, err
	}
	var addr, local netip.Addr
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_FLAGS:
			flags = ad.Uint32()
		}
	}
	if local.IsValid() {
		addr = local // IFA_ADDRESS is then the other end of a point-to-point link
	}
	if flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
		return index, netip.Prefix{}, ad.Err()
	}
	return index, netip.PrefixFrom(addr, bits), ad.Err()
}

func sortedPrefixes(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return ps
}

// wireless asks sysfs, because netlink tells only those who speak nl80211. It needs the
// /sys of this network namespace, which a container in the host's network has.
func wireless(name string) bool {
	for _, mark := range []string{"phy80211", "wireless"} {
		if _, err := os.Stat(filepath.Join("/sys/class/net", name, mark)); err == nil {
			return true
		}
	}
	return false
}
