package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The endpoints answer to echo; after stop they do not even read any more: what comes then fills a buffer and is dropped
// there, and no packet's time has in it that somebody was woken.
const echo, stop = "echo", "stop"

// serve makes the side's endpoints listen: TCP is accepted and closed, for UDP see answering. It ends with this program.
func (s *side) serve() error {
	for i := range realEndpoints {
		to := netip.AddrPortFrom(netip.MustParseAddr(realEndpoint(i)), probePort)
		err := in(s.pods, func() error {
			listener, err := socket(unix.SOCK_STREAM, to)
			if err == nil {
				err = unix.Listen(listener, 65535)
			}
			if err != nil {
				return err
			}
			datagrams, err := socket(unix.SOCK_DGRAM, to)
			if err != nil {
				return err
			}
			s.datagrams = append(s.datagrams, datagrams)
			go accept(listener)
			return nil
		})
		if err != nil {
			return fmt.Errorf("listen on %s: %w", to, err)
		}
	}
	return nil
}

func socket(kind int, bind netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, sockaddr(bind))
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

func accept(listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}

// answering makes the endpoints answer datagrams until the returned function is called.
func (s *side) answering() (silence func() error) {
	group := errgroup.Group{}
	for _, fd := range s.datagrams {
		group.Go(func() error { return answer(fd) })
	}
	return func() error {
		err := in(s.pods, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for i := range realEndpoints {
				to := netip.AddrPortFrom(netip.MustParseAddr(realEndpoint(i)), probePort)
				err = errors.Join(err, unix.Sendto(fd, []byte(stop), 0, sockaddr(to)))
			}
			return err
		})
		return errors.Join(err, group.Wait())
	}
}

func answer(fd int) error {
	buf := make([]byte, 64)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return fmt.Errorf("read datagrams: %w", err)
		}
		switch string(buf[:n]) {
		case stop:
			return nil
		case echo:
			_ = unix.Sendto(fd, buf[:n], 0, from)
		}
	}
}

// connector makes connections from one namespace.
type connector struct {
	ns netns.NsHandle
	to netip.AddrPort
}

// connect opens a TCP connection and closes it with a reset, which leaves nothing behind that could fill up.
func connect(to *unix.SockaddrInet4) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return errors.Join(err, unix.Connect(fd, to), unix.Close(fd))
}

// connects opens connections one after the other for some time and returns what each took, in seconds, and how much
// processor time all of them.
func (c connector) connects(d time.Duration) (took samples, used float64, err error) {
	err = in(c.ns, func() error {
		to := sockaddr(c.to)
		before, err := threadTime()
		if err != nil {
			return err
		}
		began := time.Now()
		for at := began; at.Sub(began) < d; {
			if err := connect(to); err != nil {
				return fmt.Errorf("connect to %s: %w", c.to, err)
			}
			now := time.Now()
			took = append(took, now.Sub(at).Seconds())
			at = now
		}
		after, err := threadTime()
		used = after - before
		return err
	})
	return took, used, err
}

// threadTime is the processor time of this thread, in seconds. What the kernel does with a packet that the thread sends is in it.
func threadTime() (float64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	return time.Duration(t.Nano()).Seconds(), nil
}

// firsts sends single datagrams, each from a port of its own, and returns what each took, in seconds: the sender's
// processor carries a packet all the way to the endpoint's socket before the system call returns.
func (c connector) firsts(source netip.Addr, port, n int) (samples, error) {
	took := make(samples, 0, n)
	err := in(c.ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		packet := datagram(source, c.to)
		to := sockaddr(netip.AddrPortFrom(c.to.Addr(), 0))
		for i := range n {
			const sourcePort = ipHeader
			binary.BigEndian.PutUint16(packet[sourcePort:], uint16(port+i))
			at := time.Now()
			if err := unix.Sendto(fd, packet, 0, to); err != nil {
				return fmt.Errorf("send to %s: %w", c.to, err)
			}
			took = append(took, time.Since(at).Seconds())
		}
		return nil
	})
	return took, err
}

const (
	ipHeader  = 20
	udpHeader = 8
)

// datagram is a whole UDP packet over IPv4 (RFC 768: a checksum of 0 is none) with 8 bytes of content.
func datagram(from netip.Addr, to netip.AddrPort) []byte {
	const content, version, life = 8, 0x45, 64
	b := make([]byte, ipHeader+udpHeader+content)
	b[0], b[8], b[9] = version, life, unix.IPPROTO_UDP
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[ipHeader+2:], to.Port())
	binary.BigEndian.PutUint16(b[ipHeader+4:], udpHeader+content)
	return b
}

// flow is an established UDP connection: an endpoint has answered.
type flow struct {
	fd int
	ns netns.NsHandle
}

func (c connector) establish() (*flow, error) {
	f := &flow{ns: c.ns}
	err := in(c.ns, func() error {
		var err error
		if f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		patience := unix.Timeval{Sec: 2}
		if err := unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
			return err
		}
		if err := unix.Connect(f.fd, sockaddr(c.to)); err != nil {
			return err
		}
		return f.ask()
	})
	if err != nil {
		return nil, fmt.Errorf("establish a flow to %s: %w", c.to, err)
	}
	return f, nil
}

// ask sends a datagram that is answered.
func (f *flow) ask() error {
	if _, err := unix.Write(f.fd, []byte(echo)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	_, err := unix.Read(f.fd, buf)
	return err
}

// sends writes datagrams that nobody answers and returns what each took, in seconds.
func (f *flow) sends(n int) (samples, error) {
	took := make(samples, 0, n)
	err := in(f.ns, func() error {
		content := []byte("swallow!")
		for range n {
			at := time.Now()
			if _, err := unix.Write(f.fd, content); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			took = append(took, time.Since(at).Seconds())
		}
		return nil
	})
	return took, err
}

// oneRule is the least that leads to an endpoint: a single rule that rewrites the destination.
func (s *side) oneRule() error {
	return s.nft(fmt.Sprintf(`add table ip one
add chain ip one pre { type nat hook prerouting priority -100; }
add rule ip one pre ip daddr %s dnat to %s
`, probeIP, realEndpoint(0)))
}

// nft loads rules on the node.
func (s *side) nft(rules string) error {
	file, err := os.CreateTemp("", "fairlead-bench-*.nft")
	if err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(rules); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	if out, err := runIn(s, nftCommand("-f", file.Name())); err != nil {
		return fmt.Errorf("load rules: %w: %s", err, out)
	}
	return nil
}
