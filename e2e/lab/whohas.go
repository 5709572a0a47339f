package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// whohasWait is how long answers are waited for.
const whohasWait = 400 * time.Millisecond

// whohasCommand asks a LAN who answers for an address and prints every one that does.
func (l lab) whohasCommand(_ context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: lab whohas HOST ADDRESS")
	}
	from, err := findHost(args[0])
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(args[1])
	if err != nil {
		return fmt.Errorf("whohas: %w", err)
	}
	var macs []string
	err = onThread(func() error {
		if err := l.enter(from); err != nil {
			return err
		}
		macs, err = whohas(address, whohasWait)
		return err
	})
	if err != nil {
		return fmt.Errorf("ask who has %s: %w", address, err)
	}
	for _, mac := range macs {
		fmt.Println(mac, hostOf(mac))
	}
	return nil
}

// hostOf names the host of the lab with a MAC address, "?" if there is none.
func hostOf(mac string) string {
	for _, h := range hosts() {
		for _, n := range h.NICs {
			if net.HardwareAddr(n.mac()).String() == mac {
				return h.Name
			}
		}
	}
	return "?"
}

// whohas sends one question on eth0 of this namespace and returns all MAC addresses in the answers, sorted.
func whohas(address netip.Addr, wait time.Duration) ([]string, error) {
	// Not net.InterfaceByName: the Go runtime may read /sys of another namespace.
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	eth0 := &net.Interface{Index: link.Attrs().Index, Name: "eth0", MTU: link.Attrs().MTU, HardwareAddr: link.Attrs().HardwareAddr}
	protocol := unix.ETH_P_ARP
	question, parse := askARP, parseARP
	if address.Is6() {
		protocol = unix.ETH_P_IPV6
		question, parse = askNDP, parseNDP
	}
	frame, to, err := question(eth0.HardwareAddr, address)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(eth0, packet.Datagram, protocol, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	var macs []string
	buffer := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			slices.Sort(macs)
			return macs, nil // the time is over
		}
		if mac := parse(buffer[:n], address); mac != nil && !slices.Contains(macs, mac.String()) {
			macs = append(macs, mac.String())
		}
	}
}

// askARP makes an ARP request that teaches nobody anything: its sender is 0.0.0.0 (RFC 5227, 2.1.1).
func askARP(own net.HardwareAddr, address netip.Addr) ([]byte, net.HardwareAddr, error) {
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	request, err := arp.NewPacket(arp.OperationRequest, own, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), address)
	if err != nil {
		return nil, nil, err
	}
	frame, err := request.MarshalBinary()
	return frame, broadcast, err
}

func parseARP(frame []byte, address netip.Addr) net.HardwareAddr {
	var reply arp.Packet
	if reply.UnmarshalBinary(frame) != nil || reply.Operation != arp.OperationReply {
		return nil
	}
	if reply.SenderIP != address {
		return nil
	}
	return reply.SenderHardwareAddr
}

// askNDP makes a neighbour solicitation from ::, as for duplicate address detection (RFC 4862, 5.4.2).
func askNDP(_ net.HardwareAddr, address netip.Addr) ([]byte, net.HardwareAddr, error) {
	group, err := ndp.SolicitedNodeMulticast(address)
	if err != nil {
		return nil, nil, err
	}
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: address}, netip.IPv6Unspecified(), group)
	if err != nil {
		return nil, nil, err
	}
	const icmpv6, hopLimit = 58, 255
	header := make([]byte, 8, 40+len(message))
	header[0] = 6 << 4
	binary.BigEndian.PutUint16(header[4:], uint16(len(message)))
	header[6], header[7] = icmpv6, hopLimit
	header = append(header, netip.IPv6Unspecified().AsSlice()...)
	header = append(header, group.AsSlice()...)
	last := group.As16()
	return append(header, message...), net.HardwareAddr{0x33, 0x33, last[12], last[13], last[14], last[15]}, nil
}

func parseNDP(frame []byte, address netip.Addr) net.HardwareAddr {
	if len(frame) < 40 || frame[6] != 58 {
		return nil
	}
	message, err := ndp.ParseMessage(frame[40:])
	if err != nil {
		return nil
	}
	advertisement, ok := message.(*ndp.NeighborAdvertisement)
	if !ok || advertisement.TargetAddress != address {
		return nil
	}
	for _, option := range advertisement.Options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
			return lla.Addr
		}
	}
	return nil
}

// apart is the name of the second bridge of a subnet: hosts that are on it see each other and nobody else.
func (s subnet) apart() string { return s.Name + "-apart" }
