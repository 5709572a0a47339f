package l2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ndpProtocol is neighbour discovery, RFC 4861, with the duplicate address detection of
// RFC 4862. Its frames are made whole here: a packet socket needs no link-local address
// to send from, and reaches the neighbour without resolving it.
type ndpProtocol struct{}

const (
	ipv6Len       = 40
	ndpTargetAt   = 8 // in the ICMPv6 message
	ndpLen        = ndpTargetAt + 16
	icmpv6        = unix.IPPROTO_ICMPV6
	solicitation  = 135
	advertisement = 136
)

var (
	errNDPShape    = errors.New("not neighbour discovery")
	errHopLimit    = errors.New("hop limit is not 255")
	errChecksum    = errors.New("wrong checksum")
	errNDPTarget   = errors.New("target is no unicast address")
	errDADOptions  = errors.New("solicitation from :: with a source link-layer address")
	errNDPOption   = errors.New("link-layer address is no station")
	allNodesGroup  = netip.MustParseAddr("ff02::1")
	solicitedGroup = netip.MustParsePrefix("ff02::1:ff00:0/104")
)

func (ndpProtocol) etherType() int { return unix.ETH_P_IPV6 }

func (ndpProtocol) filter(addrs []netip.Addr) []bpf.Instruction {
	const nextHeader, kind, target = etherLen + 6, etherLen + ipv6Len, etherLen + ipv6Len + ndpTargetAt
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6, SkipTrue: 1}, drop,
		bpf.LoadAbsolute{Off: kind, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipTrue: 1}, drop,
	}
	p = append(p, passShort(etherLen+ipv6Len+ndpLen)...)
	p = append(p, passAddresses(target, addrs)...)
	return append(p, drop)
}

func (ndpProtocol) parse(frame []byte) (heard, error) {
	if len(frame) < etherLen+ipv6Len+ndpLen {
		return heard{}, errFrameShort
	}
	to, source, packet := etherHeader(frame)
	header, body, err := splitIPv6(packet)
	if err != nil {
		return heard{}, err
	}
	if !source.host() {
		return heard{}, errSender
	}
	src, dst := netip.AddrFrom16([16]byte(header[8:24])), netip.AddrFrom16([16]byte(header[24:40]))
	if checksum(src, dst, body) != 0 {
		return heard{}, errChecksum
	}
	m, err := ndp.ParseMessage(body)
	if err != nil {
		return heard{}, fmt.Errorf("parse NDP: %w", err)
	}
	h := heard{to: to, from: source, peer: src}
	switch m := m.(type) {
	case *ndp.NeighborSolicitation:
		h.asks = m.TargetAddress
		err = h.readSolicitation(m, dst)
	case *ndp.NeighborAdvertisement:
		h.claims = m.TargetAddress
		_, err = h.readStation(m.Options, ndp.Target)
	default:
		err = errNDPShape
	}
	return h, err
}

// splitIPv6 takes an IPv6 packet with nothing between its header and ICMPv6: extension
// headers have no place in neighbour discovery (RFC 6980). What follows the packet in
// the frame is padding.
func splitIPv6(packet []byte) (header, body []byte, err error) {
	header, body = packet[:ipv6Len], packet[ipv6Len:]
	length := int(binary.BigEndian.Uint16(header[4:6]))
	switch {
	case header[0]>>4 != 6 || header[6] != icmpv6:
		return nil, nil, errNDPShape
	case length < ndpLen || length > len(body):
		return nil, nil, errFrameShort
	case header[7] != ndp.HopLimit:
		return nil, nil, errHopLimit
	case body[1] != 0:
		return nil, nil, errNDPShape
	}
	return header, body[:length], nil
}

// readSolicitation checks what RFC 4861 §7.1.1 demands of a solicitation.
func (h *heard) readSolicitation(m *ndp.NeighborSolicitation, dst netip.Addr) error {
	if h.asks.IsMulticast() || h.asks.IsUnspecified() {
		return errNDPTarget
	}
	named, err := h.readStation(m.Options, ndp.Source)
	if err != nil {
		return err
	}
	if h.peer.IsUnspecified() {
		if named {
			return errDADOptions
		}
		if !solicitedGroup.Contains(dst) {
			return errNDPTarget
		}
	}
	return nil
}

// readStation takes the station from a link-layer address option, if there is one; the
// frame's own source serves where there is none, as in unicast neighbour unreachability
// probes, which need not carry it.
func (h *heard) readStation(options []ndp.Option, direction ndp.Direction) (named bool, err error) {
	for _, o := range options {
		lla, ok := o.(*ndp.LinkLayerAddress)
		if !ok || lla.Direction != direction {
			continue
		}
		if len(lla.Addr) != len(mac{}) || !mac(lla.Addr).host() {
			return true, errNDPOption
		}
		h.from = mac(lla.Addr)
		named = true
	}
	return named, nil
}

// answer is sent to who asked, or to everybody if that one has no address yet: so other
// hosts learn during their duplicate address detection that the address is taken.
func (n ndpProtocol) answer(h heard, own mac) ([]byte, error) {
	if h.peer.IsUnspecified() {
		return n.advertise(h.asks, own, false, allNodesGroup, allNodes)
	}
	return n.advertise(h.asks, own, true, h.peer, h.from)
}

func (n ndpProtocol) announce(addr netip.Addr, own mac) ([][]byte, error) {
	b, err := n.advertise(addr, own, false, allNodesGroup, allNodes)
	return [][]byte{b}, err
}

// advertise speaks from the address itself, as Linux does for its own. The router flag
// stays clear: setting or clearing it wrongly changes the hosts' default routers.
func (n ndpProtocol) advertise(addr netip.Addr, own mac, solicited bool, dst netip.Addr, to mac) ([]byte, error) {
	return n.frame(addr, dst, own, to, &ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: own.hardware()}},
	})
}

func (n ndpProtocol) probe(addr netip.Addr, own mac) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, fmt.Errorf("find solicited-node group of %s: %w", addr, err)
	}
	return n.frame(netip.IPv6Unspecified(), group, own, groupMAC(group), &ndp.NeighborSolicitation{TargetAddress: addr})
}

func (n ndpProtocol) frame(src, dst netip.Addr, own, to mac, m ndp.Message) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		return nil, fmt.Errorf("encode NDP for %s: %w", dst, err)
	}
	header := make([]byte, 0, ipv6Len+len(body))
	header = append(header, 0x60, 0, 0, 0, 0, byte(len(body)), icmpv6, ndp.HopLimit)
	header = append(header, src.AsSlice()...)
	header = append(header, dst.AsSlice()...)
	return etherFrame(to, own, n.etherType(), append(header, body...)), nil
}

// groupMAC is where Ethernet carries an IPv6 multicast group, RFC 2464 §7.
func groupMAC(group netip.Addr) mac {
	b := group.As16()
	return mac{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// checksum is zero for an ICMPv6 message that carries the right one (RFC 4443 §2.3).
func checksum(src, dst netip.Addr, body []byte) uint16 {
	sum := uint32(len(body)) + icmpv6
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(src.AsSlice())
	add(dst.AsSlice())
	add(body)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
