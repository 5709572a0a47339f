package forward

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestInvalid has a pod send a TCP segment that no connection explains (SYN
// and FIN at once). It must not leave with the pod's own address while
// DropInvalid holds, and passes when it does not.
func TestInvalid(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	// A rule about ports needs conntrack in this namespace, as any Service does.
	limits := map[bool]time.Duration{false: longPatience, true: patience}
	for _, drop := range []bool{false, true, false} {
		static := l.static()
		static.DropInvalid = drop
		if _, err := table.Apply(context.Background(), nft.Wish{Static: static}); err != nil {
			t.Fatal(err)
		}
		eachFamily(t, func(t *testing.T, in func(string) string) {
			l := *l
			l.t = t
			from := netip.MustParseAddrPort(in("10.244.1.1:8080"))
			to := netip.MustParseAddrPort(in(clientAddr + ":4321"))
			ear := l.listenRaw(l.client, to.Addr())
			l.in(l.here, func() error { return sendSegment(from, to, synFin, 0) })
			if heard := hears(limits[drop], ear, to.Port()); heard == drop {
				t.Errorf("drop invalid %t: the segment arrived: %t", drop, heard)
			}
		})
	}
}

// listenRaw opens a raw TCP socket of a namespace.
func (l *lab) listenRaw(ns netns.NsHandle, at netip.Addr) int {
	l.t.Helper()
	fd := -1
	l.in(ns, func() error {
		family := unix.AF_INET
		if at.Is6() {
			family = unix.AF_INET6
		}
		var err error
		fd, err = unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_TCP)
		return err
	})
	l.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// waitFor bounds how long a socket waits for a packet.
func waitFor(fd int, limit time.Duration) error {
	t := unix.NsecToTimeval(limit.Nanoseconds())
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t)
}

// hears tells whether a segment for that port arrives in time.
func hears(limit time.Duration, fd int, port uint16) bool {
	if waitFor(fd, limit) != nil {
		return false
	}
	buf := make([]byte, 256)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return false
		}
		segment := buf[:n]
		if _, v4 := from.(*unix.SockaddrInet4); v4 && n > 20 {
			segment = buf[20:n]
		}
		if len(segment) >= 4 && binary.BigEndian.Uint16(segment[2:]) == port {
			return true
		}
	}
}

// synFin are the flags of a segment that no connection explains.
const synFin = 0x03

// sendSegment sends a TCP segment.
func sendSegment(from, to netip.AddrPort, flags byte, sequence uint32) error {
	return sendSegments(from, to, flags, sequence, 1)
}

// sendSegments sends a TCP segment from that many ports, from that of from on.
func sendSegments(from, to netip.AddrPort, flags byte, sequence uint32, n int) error {
	family := unix.AF_INET
	var local, remote unix.Sockaddr
	if to.Addr().Is6() {
		family = unix.AF_INET6
		local, remote = &unix.SockaddrInet6{Addr: from.Addr().As16()}, &unix.SockaddrInet6{Addr: to.Addr().As16()}
	} else {
		local, remote = &unix.SockaddrInet4{Addr: from.Addr().As4()}, &unix.SockaddrInet4{Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, local); err != nil {
		return err
	}
	for i := range n {
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b[0:], from.Port()+uint16(i))
		binary.BigEndian.PutUint16(b[2:], to.Port())
		binary.BigEndian.PutUint32(b[4:], sequence)
		b[12], b[13] = 5<<4, flags
		binary.BigEndian.PutUint16(b[14:], 1024)
		binary.BigEndian.PutUint16(b[16:], tcpSum(from.Addr(), to.Addr(), b))
		if err := unix.Sendto(fd, b, 0, remote); err != nil {
			return err
		}
	}
	return nil
}

// tcpSum is the checksum with the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
func tcpSum(from, to netip.Addr, segment []byte) uint16 {
	all := append(from.AsSlice(), to.AsSlice()...)
	all = append(all, 0, unix.IPPROTO_TCP, byte(len(segment)>>8), byte(len(segment)))
	all = append(all, segment...)
	sum := uint32(0)
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
