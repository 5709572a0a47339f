package forward

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestOutOfWindow has an endpoint send a segment far outside the window of a
// connection. Where conntrack is liberal it reaches the caller as the Service's.
// Where it is not and the rules drop what is invalid, it reaches nobody; it
// never arrives with the endpoint's own address, which the caller would answer with a reset.
func TestOutOfWindow(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, "10.244.1.1:8080")})
	for _, liberal := range []bool{true, false} {
		l.sysctl(l.node, "netfilter/nf_conntrack_tcp_be_liberal", map[bool]string{true: "1", false: "0"}[liberal])
		static := l.static()
		static.DropInvalid = !liberal
		_, err := table.Apply(context.Background(), nft.Wish{Static: static})
		l.check(err)
		eachFamily(t, func(t *testing.T, in func(string) string) {
			l := *l
			l.t = t
			endpoint := netip.MustParseAddrPort(in("10.244.1.1:8080"))
			ear := l.listenRaw(l.pod, netip.MustParseAddrPort(in(podAddr+":0")).Addr())
			caller := netip.MustParseAddrPort(l.connected(in(vip + ":80")).LocalAddr().String())
			first, heard := nextSegment(longPatience, ear, caller.Port(), nil)
			if !heard {
				t.Fatal("no segment of the connection itself was seen")
			}
			far := first.sequence + 1<<30
			l.in(l.here, func() error { return sendSegment(endpoint, caller, ackFlag, far) })
			limit := map[bool]time.Duration{true: longPatience, false: patience}[liberal]
			got, heard := nextSegment(limit, ear, caller.Port(), &far)
			if heard != liberal || (heard && got.from != 80) {
				t.Errorf("liberal %t: the segment arrived: %t, from port %d", liberal, heard, got.from)
			}
		})
	}
}

// ackFlag is the flag of a segment in the middle of a connection.
const ackFlag = 0x10

// connected is a connection of the pod that has heard of its endpoint.
func (l *lab) connected(to string) net.Conn {
	l.t.Helper()
	var c net.Conn
	l.in(l.pod, func() error {
		var err error
		if c, err = net.DialTimeout("tcp", to, longPatience); err != nil {
			return err
		}
		l.t.Cleanup(func() { _ = c.Close() })
		_, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
	return c
}

// segment is what the test needs of one.
type segment struct {
	from     uint16
	sequence uint32
}

// nextSegment waits for one to a port, with that sequence number if it is not nil.
func nextSegment(limit time.Duration, fd int, port uint16, sequence *uint32) (segment, bool) {
	if waitFor(fd, limit) != nil {
		return segment{}, false
	}
	buf := make([]byte, 256)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return segment{}, false
		}
		b := buf[:n]
		if _, v4 := from.(*unix.SockaddrInet4); v4 && n > 20 {
			b = buf[20:n]
		}
		if len(b) < 8 || binary.BigEndian.Uint16(b[2:]) != port {
			continue
		}
		s := segment{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[4:])}
		if sequence == nil || s.sequence == *sequence {
			return s, true
		}
	}
}
