package bfd

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The ports of RFC 5881 §4 and RFC 5883 §5, and the range of our source ports.
const (
	portSingleHop = 3784
	portMultihop  = 4784
	firstSource   = 49152
	sourcePorts   = 65536 - firstSource
	classSelector = 0xc0 // DSCP CS6: network control
)

// incoming is a packet as it came in.
type incoming struct {
	bytes    []byte
	from, to netip.Addr // without zones
	index    int        // of the interface it came in by
	ttl      int        // -1 if the kernel did not say: never enough
	multihop bool
	arrival  time.Time
}

type earKey struct {
	v6, multihop bool
}

// ear is a socket that hears packets of all sessions of one family and one port.
type ear struct {
	key     earKey
	conn    *net.UDPConn
	deliver func(incoming)

	mu     sync.Mutex // one reader at a time, so that packets stay in order
	buffer [512]byte
	oob    [512]byte
}

func (r *Room) listen(s Session) (*ear, error) {
	k := earKey{v6: s.Peer.Is6(), multihop: s.Multihop}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.ears[k]; e != nil {
		return e, nil
	}
	network, address, port := "udp4", "0.0.0.0", portSingleHop
	if k.v6 {
		network, address = "udp6", "[::]"
	}
	if k.multihop {
		port = portMultihop
	}
	config := net.ListenConfig{Control: control(func(fd int) error { return hearing(fd, k.v6) })}
	conn, err := config.ListenPacket(r.life, network, fmt.Sprintf("%s:%d", address, port))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("listen for BFD on UDP port %d: another BFD daemon on this node has it", port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for BFD on UDP port %d: %w", port, err)
	}
	e := &ear{key: k, conn: conn.(*net.UDPConn), deliver: r.deliver}
	r.ears[k] = e
	go e.hear()
	return e, nil
}

// closeEars closes the sockets without the lock: Close waits for a reader, and a reader
// that delivers a packet waits for the lock.
func (r *Room) closeEars() {
	r.mu.Lock()
	ears := r.ears
	r.ears = map[earKey]*ear{}
	r.mu.Unlock()
	for _, e := range ears {
		_ = e.conn.Close()
	}
}

// hear reads until the socket is closed.
func (e *ear) hear() {
	raw, err := e.conn.SyscallConn()
	for err == nil {
		// The socket is read in drain, not here, so that a session whose detection
		// time is over can read it too; an answer of false waits for the next packet.
		err = raw.Read(func(uintptr) bool { return e.drain() > 0 })
	}
}

// drain delivers all packets that wait in the socket and returns how many there were.
func (e *ear) drain() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return 0
	}
	for again := true; again; {
		again = false
		err := raw.Control(func(fd uintptr) {
			size, oobSize, _, from, err := unix.Recvmsg(int(fd), e.buffer[:], e.oob[:], unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			n, again = n+1, true
			in := e.incoming(from, e.oob[:oobSize])
			in.bytes = e.buffer[:size]
			e.deliver(in)
		})
		if err != nil {
			return n
		}
	}
	return n
}

func (e *ear) incoming(from unix.Sockaddr, oob []byte) incoming {
	in := incoming{ttl: -1, multihop: e.key.multihop, arrival: time.Now()}
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		in.from = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		in.from = netip.AddrFrom16(a.Addr)
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return in
	}
	for _, m := range messages {
		in.ancillary(m)
	}
	return in
}

// control wraps what is to be set on a socket before it is bound.
func control(set func(fd int) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if outer := c.Control(func(fd uintptr) { err = set(int(fd)) }); outer != nil {
			return outer
		}
		return err
	}
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

// dial opens the socket a session sends from: its own source port of the range RFC 5881
// §4 asks for, the same for the session's life: a certain one, or any if port is 0.
func dial(s Session, wanted uint16) (*net.UDPConn, error) {
	port := portSingleHop
	if s.Multihop {
		port = portMultihop
	}
	source := numbered(s.Local)
	peer := netip.AddrPortFrom(numbered(s.Peer), uint16(port))
	start, tries := int(random()%sourcePorts), 64
	if wanted >= firstSource {
		start, tries = int(wanted)-firstSource, 1
	}
	for i := range tries {
		local := &net.UDPAddr{IP: source.AsSlice(), Zone: source.Zone(), Port: firstSource + (start+i)%sourcePorts}
		dialer := net.Dialer{LocalAddr: local, Control: control(func(fd int) error { return speaking(fd, s) })}
		conn, err := dialer.Dial("udp", peer.String())
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open BFD socket to %s: %w", s.Peer, err)
		}
		return conn.(*net.UDPConn), nil
	}
	return nil, fmt.Errorf("open BFD socket to %s: no free source port", s.Peer)
}

// portOf is the port a socket sends from.
func portOf(conn *net.UDPConn) uint16 { return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// random is 64 random bits, which nobody on the network can guess.
func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}
