package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout   = 5 * time.Second
	classSelector = 0xc0 // DSCP CS6: network control
)

// dial connects to the peer. The error says in people's words what stood in the way.
func (p Peer) dial(ctx context.Context, address netip.Addr) (*net.TCPConn, error) {
	dialer := net.Dialer{
		Timeout: dialTimeout, KeepAlive: -1,
		ControlContext: func(_ context.Context, _, _ string, c syscall.RawConn) error {
			var err error
			if outer := c.Control(func(fd uintptr) { err = p.prepare(int(fd), address) }); outer != nil {
				return outer
			}
			return err
		},
	}
	dialer.SetMultipathTCP(false) // MD5 and GTSM need plain TCP
	if source := numbered(p.Source); source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: source.AsSlice(), Zone: source.Zone()}
	}
	remote := netip.AddrPortFrom(numbered(address), p.port())
	conn, err := dialer.DialContext(ctx, "tcp", remote.String())
	if err != nil {
		return nil, p.explain(netip.AddrPortFrom(address, p.port()), err)
	}
	return conn.(*net.TCPConn), nil
}

// numbered is the address with the interface's number for a zone: the net package
// remembers the numbers of names for a minute, and an interface that was made anew has
// another one. An address whose interface is unknown stays as it is.
func numbered(a netip.Addr) netip.Addr {
	if iface, err := net.InterfaceByName(a.Zone()); err == nil {
		return a.WithZone(strconv.Itoa(iface.Index))
	}
	return a
}

func (p Peer) port() uint16 {
	if p.Port == 0 {
		return 179
	}
	return p.Port
}

// explain puts the reason in front and drops what the net package repeats.
func (p Peer) explain(remote netip.AddrPort, err error) error {
	var timeout net.Error
	var number syscall.Errno
	timedOut := errors.As(err, &timeout) && timeout.Timeout()
	hint := ""
	switch {
	case timedOut && p.Password != "":
		hint = "no answer, as if the password were wrong"
	case timedOut:
		hint = "no answer"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		hint = fmt.Sprintf("this node does not have the source address %s", p.Source)
	case errors.Is(err, unix.ENODEV):
		hint = fmt.Sprintf("this node does not have the interface %s", p.device())
	case errors.Is(err, unix.ECONNREFUSED):
		hint = "nothing listens there, or it does not know this node as its neighbor"
	case errors.As(err, &number):
		return fmt.Errorf("connect to %s: %w", remote, number)
	default:
		return fmt.Errorf("connect to %s: %w", remote, err)
	}
	return fmt.Errorf("connect to %s: %s", remote, hint)
}

// suspect adds what most likely is behind a session that ended before the peer said a
// word.
func (p Peer) suspect(err error, c *connection) error {
	if p.TTLSecurity == 0 || c.phase != waitsForOpen {
		return err
	}
	return fmt.Errorf("nothing was heard after the connect, as if the peer were more hops away than %d or had no TTL security: %w",
		p.TTLSecurity, err)
}

// device is the interface or VRF the connection is bound to, empty for none.
func (p Peer) device() string {
	if p.Interface != "" {
		return p.Interface
	}
	return p.VRF
}

// prepare sets what has to be set before the first SYN.
func (p Peer) prepare(fd int, address netip.Addr) error {
	if device := p.device(); device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			return fmt.Errorf("bind to %s: %w", device, err)
		}
	}
	if p.Password != "" {
		if err := signed(fd, address, p.Password); err != nil {
			return fmt.Errorf("set the password: %w", err)
		}
	}
	return p.setOptions(fd, address.Is6())
}

// tune gives a connection that the peer opened what ours have from the beginning.
func (p Peer) tune(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err == nil {
		is6 := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is6()
		outer := raw.Control(func(fd uintptr) { err = p.setOptions(int(fd), is6) })
		err = errors.Join(outer, err)
	}
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("take the peer's connection: %w", err)
	}
	return nil
}

func (p Peer) setOptions(fd int, is6 bool) error {
	hops := p.ttl()
	options := [][3]int{
		{unix.IPPROTO_IP, unix.IP_TTL, hops}, {unix.IPPROTO_IP, unix.IP_TOS, classSelector},
		{unix.IPPROTO_IP, unix.IP_MINTTL, p.leastTTL()},
	}
	if is6 {
		options = [][3]int{
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS, classSelector},
			{unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, p.leastTTL()},
		}
	}
	// A peer that takes no data for the hold time is gone, even if it says it lives.
	options = append(options, [3]int{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(p.hold().Milliseconds())})
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return fmt.Errorf("set socket option %d: %w", o[1], err)
		}
	}
	return nil
}

// ttl of what we send: 255 under GTSM, else enough to get to the peer and no further.
func (p Peer) ttl() int {
	switch {
	case p.TTLSecurity != 0:
		return 255
	case !p.external():
		return 64
	case p.MultihopTTL != 0:
		return int(p.MultihopTTL)
	}
	return 1
}

// external says whether the peer is to be in another AS.
func (p Peer) external() bool {
	return p.ASN == External || p.ASN == Exact && p.PeerASN != p.LocalASN
}

// leastTTL of what we accept (RFC 5082 §3); 0 for any.
func (p Peer) leastTTL() int {
	if p.TTLSecurity == 0 {
		return 0
	}
	return 256 - int(p.TTLSecurity)
}

// hold is the hold time we propose.
func (p Peer) hold() time.Duration {
	if p.HoldTime == 0 {
		return 90 * time.Second
	}
	return max(p.HoldTime, 3*time.Second).Truncate(time.Second)
}

// signed makes the kernel sign every segment to and from the address (RFC 2385).
func signed(fd int, address netip.Addr, password string) error {
	if len(password) > unix.TCP_MD5SIG_MAXKEYLEN {
		return fmt.Errorf("it has %d bytes, at most %d are possible", len(password), unix.TCP_MD5SIG_MAXKEYLEN)
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	if address.Is4() {
		sig.Addr.Family = unix.AF_INET
		copy(sig.Addr.Data[2:], address.AsSlice())
	} else {
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], address.AsSlice())
	}
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
}
