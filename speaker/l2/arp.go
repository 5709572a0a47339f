package l2

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/arp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// arpProtocol is RFC 826 with the probes and announcements of RFC 5227.
type arpProtocol struct{}

const arpLen = 28

var errARPShape = errors.New("not ARP for IPv4 on Ethernet")

func (arpProtocol) etherType() int { return unix.ETH_P_ARP }

func (arpProtocol) filter(addrs []netip.Addr) []bpf.Instruction {
	const lengths, sender, target = etherLen + 4, etherLen + 14, etherLen + 24
	p := passShort(etherLen + arpLen)
	// What is not ARP for IPv4 on Ethernet is passed to be counted.
	p = append(p,
		bpf.LoadAbsolute{Off: etherLen, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x00010800, SkipTrue: 1}, pass,
		bpf.LoadAbsolute{Off: lengths, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0604, SkipTrue: 1}, pass)
	p = append(p, passAddresses(sender, addrs)...)
	p = append(p, passAddresses(target, addrs)...)
	return append(p, drop)
}

func (arpProtocol) parse(frame []byte) (heard, error) {
	if len(frame) < etherLen+arpLen {
		return heard{}, errFrameShort
	}
	to, source, payload := etherHeader(frame)
	// The library slices by the lengths the packet claims: only these are ours.
	if [2]byte(payload[4:6]) != [2]byte{6, 4} {
		return heard{}, errARPShape
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(payload[:arpLen]); err != nil {
		return heard{}, fmt.Errorf("parse ARP: %w", err)
	}
	if p.HardwareType != 1 || p.ProtocolType != unix.ETH_P_IP {
		return heard{}, errARPShape
	}
	h := heard{to: to, from: mac(p.SenderHardwareAddr), peer: p.SenderIP}
	if !h.from.host() || !source.host() {
		return heard{}, errSender
	}
	if !p.SenderIP.IsUnspecified() {
		h.claims = p.SenderIP
	}
	switch p.Operation {
	case arp.OperationRequest:
		if p.TargetIP != p.SenderIP && !p.TargetIP.IsUnspecified() {
			h.asks = p.TargetIP
		}
	case arp.OperationReply:
	default:
		return heard{}, errARPShape
	}
	return h, nil
}

func (a arpProtocol) answer(h heard, own mac) ([]byte, error) {
	return a.frame(arp.OperationReply, h.from, own, h.asks, h.from, h.peer)
}

// announce sends both forms of a gratuitous ARP, because hosts differ in which they
// believe. The reply's target is our own MAC: with the broadcast address there, Linux
// does not replace an entry that is younger than a second.
func (a arpProtocol) announce(addr netip.Addr, own mac) ([][]byte, error) {
	request, err := a.frame(arp.OperationRequest, broadcast, own, addr, mac{}, addr)
	if err != nil {
		return nil, err
	}
	reply, err := a.frame(arp.OperationReply, broadcast, own, addr, own, addr)
	return [][]byte{request, reply}, err
}

func (a arpProtocol) probe(addr netip.Addr, own mac) ([]byte, error) {
	return a.frame(arp.OperationRequest, broadcast, own, netip.IPv4Unspecified(), mac{}, addr)
}

func (a arpProtocol) frame(op arp.Operation, to, own mac, ownIP netip.Addr, target mac, targetIP netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, own.hardware(), ownIP, target.hardware(), targetIP)
	if err != nil {
		return nil, fmt.Errorf("make ARP for %s: %w", targetIP, err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ARP for %s: %w", targetIP, err)
	}
	return etherFrame(to, own, a.etherType(), b), nil
}
