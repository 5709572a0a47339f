package bfd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// option is an integer socket option.
type option struct{ level, name, value int }

func set(fd int, options ...option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// hearing makes the kernel say of each packet its TTL, its addresses and its arrival.
func hearing(fd int, v6 bool) error {
	if v6 {
		return set(fd,
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1})
	}
	return set(fd,
		option{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		option{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1})
}

// speaking sends with TTL 255 and as network control, on the session's interface.
func speaking(fd int, s Session) error {
	if s.Interface != "" {
		if err := unix.BindToDevice(fd, s.Interface); err != nil {
			return err
		}
	}
	if s.Peer.Is6() {
		return set(fd,
			option{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255},
			option{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, classSelector},
			option{unix.SOL_SOCKET, unix.SO_PRIORITY, 6})
	}
	return set(fd,
		option{unix.IPPROTO_IP, unix.IP_TTL, 255},
		option{unix.IPPROTO_IP, unix.IP_TOS, classSelector},
		option{unix.SOL_SOCKET, unix.SO_PRIORITY, 6})
}

// ancillary takes over what a control message says; unknown ones are ignored.
func (in *incoming) ancillary(m unix.SocketControlMessage) {
	d := m.Data
	switch {
	case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(d) >= 16:
		in.arrival = arrival(*(*unix.Timespec)(unsafe.Pointer(&d[0])))
	case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL,
		m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT:
		if len(d) >= 4 {
			in.ttl = int(binary.NativeEndian.Uint32(d))
		}
	case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(d) >= 12:
		in.index = int(binary.NativeEndian.Uint32(d))
		in.to, _ = netip.AddrFromSlice(d[8:12])
	case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(d) >= 20:
		in.index = int(binary.NativeEndian.Uint32(d[16:]))
		in.to, _ = netip.AddrFromSlice(d[0:16])
	}
}

// arrival turns the kernel's wall clock stamp into a time on the monotonic clock, which
// the timers run on and which no clock step can move.
func arrival(stamp unix.Timespec) time.Time {
	now := time.Now()
	age := now.Round(0).Sub(time.Unix(stamp.Unix()))
	if age < 0 || age > time.Minute {
		return now
	}
	return now.Add(-age)
}

func nameOf(index int) string {
	iface, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return iface.Name
}
