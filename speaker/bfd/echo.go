package bfd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// portEcho is RFC 5881 §4's. An echo packet is addressed to its sender and sent to the peer's MAC address; the peer forwards
// it back, one hop poorer.
const (
	portEcho  = 3785
	echoBytes = 24
	udpBytes  = 8
)

// echoer sends echo packets of one session and hears them come back. The kernel does neither: a packet to and from its own
// address never leaves it, nor does it take one in.
type echoer struct {
	conn  *packet.Conn
	local netip.Addr
	peer  netip.Addr
	link  *net.Interface
	nonce [echoBytes - 4]byte // behind the discriminator: nobody else can make them
	heard func(time.Time)

	discriminator uint32

	mu  sync.Mutex
	mac net.HardwareAddr // of the peer; nil: to be looked up
	at  time.Time        // when it was
}

// newEchoer opens the socket of a session.
func newEchoer(s Session, discriminator uint32, heard func(time.Time)) (*echoer, error) {
	link, err := linkOf(s)
	if err != nil {
		return nil, err
	}
	program, err := bpf.Assemble(echoFilter(s.Local.Is4()))
	if err != nil {
		return nil, fmt.Errorf("assemble the filter of echo packets: %w", err)
	}
	protocol := unix.ETH_P_IP
	if s.Local.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	conn, err := packet.Listen(link, packet.Datagram, protocol, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open the socket of echo packets on %s: %w", link.Name, err)
	}
	e := &echoer{conn: conn, local: s.Local, peer: s.Peer, link: link, discriminator: discriminator, heard: heard}
	for i := 0; i < len(e.nonce); i += 4 {
		binary.NativeEndian.PutUint32(e.nonce[i:], uint32(random()))
	}
	go e.hear()
	return e, nil
}

// linkOf is the interface that has the session's local address.
func linkOf(s Session) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("read the interfaces: %w", err)
	}
	for i := range all {
		addresses, err := all[i].Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == s.Local.WithZone("") {
				return &all[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has the address %s", s.Local)
}

// echoFilter passes UDP packets to the echo port, without IP options.
func echoFilter(is4 bool) []bpf.Instruction {
	protocolAt, portAt := uint32(9), uint32(22)
	if !is4 {
		protocolAt, portAt = 6, 42
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: protocolAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: portAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: portEcho, SkipTrue: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	}
}

// payload is what makes a packet the session's own.
func (e *echoer) payload() []byte {
	return append(binary.BigEndian.AppendUint32(nil, e.discriminator), e.nonce[:]...)
}

// send sends one packet. Nobody is told of an error: what does not come back is noticed.
func (e *echoer) send() {
	if mac := e.peerMAC(); mac != nil {
		_, _ = e.conn.WriteTo(e.datagram(), &packet.Addr{HardwareAddr: mac})
	}
}

// peerMAC looks the peer up among the neighbors, again every second: its MAC address may change.
func (e *echoer) peerMAC() net.HardwareAddr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); now.Sub(e.at) > time.Second {
		family := netlink.FAMILY_V4
		if e.peer.Is6() {
			family = netlink.FAMILY_V6
		}
		e.at = now
		neighbors, err := netlink.NeighList(e.link.Index, family)
		if err != nil {
			return e.mac
		}
		for _, n := range neighbors {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == e.peer.WithZone("") && len(n.HardwareAddr) > 0 {
				e.mac = n.HardwareAddr
			}
		}
	}
	return e.mac
}

// datagram is the packet from our address to it.
func (e *echoer) datagram() []byte {
	udp := make([]byte, udpBytes, udpBytes+echoBytes)
	binary.BigEndian.PutUint16(udp[0:], portEcho)
	binary.BigEndian.PutUint16(udp[2:], portEcho)
	udp = append(udp, e.payload()...)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	local := e.local.AsSlice()
	pseudo := binary.BigEndian.AppendUint32(append(append([]byte{}, local...), local...), uint32(len(udp)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, unix.IPPROTO_UDP)
	binary.BigEndian.PutUint16(udp[6:], checksum(append(pseudo, udp...)))
	if e.local.Is6() {
		header := []byte{0x60 | classSelector>>4, 0, 0, 0, 0, byte(len(udp)), unix.IPPROTO_UDP, 255}
		return append(append(append(header, local...), local...), udp...)
	}
	header := []byte{0x45, classSelector, 0, byte(20 + len(udp)), 0, 0, 0, 0, 255, unix.IPPROTO_UDP, 0, 0}
	header = append(append(header, local...), local...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, udp...)
}

// checksum is the Internet's (RFC 1071), of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// hear reads until the socket is closed.
func (e *echoer) hear() {
	buffer := make([]byte, 256)
	for {
		n, _, err := e.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		switch {
		case err != nil: // the link is down
			<-time.After(slow)
		case e.own(buffer[:n]):
			e.heard(time.Now())
		}
	}
}

// own tells whether a packet is one of ours that the peer has sent back.
func (e *echoer) own(b []byte) bool {
	hopsAt, payloadAt := 8, 28
	if e.local.Is6() {
		hopsAt, payloadAt = 7, 48
	}
	return len(b) >= payloadAt+echoBytes && b[hopsAt] == 254 && bytes.Equal(b[payloadAt:payloadAt+echoBytes], e.payload())
}

func (e *echoer) close() { _ = e.conn.Close() }
