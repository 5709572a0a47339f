package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// door is where peers may connect to us: a port, of one family, in one VRF.
type door struct {
	family Family
	port   uint16
	vrf    string
}

func (d door) network() string { return map[Family]string{IPv4: "tcp4", IPv6: "tcp6"}[d.family] }

// door is where the peer may connect to; a port of 0 for nowhere.
func (p Peer) door() door {
	d := door{port: p.ListenPort, vrf: p.VRF, family: IPv6}
	if p.Address.Is4() {
		d.family = IPv4
	}
	if p.Blocked != "" {
		d.port = 0
	}
	return d
}

// listener takes the connections at one door and hands each to the session it is for.
type listener struct {
	socket    *net.TCPListener
	passwords map[netip.Addr]string
	done      chan struct{}
}

// listen opens the doors that the peers want and closes the others, and gives each session the reason if
// its door cannot be opened: it goes on trying to connect itself. The doors stay open while
// sessions end and begin.
func (r *Room) listen(peers []Peer) {
	wanted := map[door]map[netip.Addr]string{}
	for _, p := range peers {
		if d := p.door(); d.port != 0 {
			if wanted[d] == nil {
				wanted[d] = map[netip.Addr]string{}
			}
			if p.Password != "" {
				wanted[d][p.Address] = p.Password
			}
		}
	}
	for d, l := range r.doors {
		if wanted[d] == nil {
			l.close()
			delete(r.doors, d)
		}
	}
	why := map[door]string{}
	for d, passwords := range wanted {
		if err := r.open(d, passwords); err != nil {
			why[d] = err.Error()
			r.log.Warn("cannot listen for peers", "port", d.port, "why", err)
		}
	}
	for _, p := range peers {
		if s := r.session(p.Key); s != nil {
			s.notListening(why[p.door()])
		}
	}
}

// open opens a door, unless it is, and makes the kernel check these peers' passwords.
func (r *Room) open(d door, passwords map[netip.Addr]string) error {
	l := r.doors[d]
	if l == nil {
		socket, err := d.listen(r.life)
		if err != nil {
			return err
		}
		l = &listener{socket: socket, passwords: map[netip.Addr]string{}, done: make(chan struct{})}
		r.doors[d] = l
		go l.accept(r, d)
	}
	return l.check(passwords)
}

func (d door) listen(ctx context.Context) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		outer := c.Control(func(fd uintptr) { err = d.prepare(int(fd)) })
		return errors.Join(outer, err)
	}}
	config.SetMultipathTCP(false) // MD5 and GTSM need plain TCP
	l, err := config.Listen(ctx, d.network(), fmt.Sprintf(":%d", d.port))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("listen on port %d: another program on this node has it, most likely another BGP daemon", d.port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", d.port, err)
	}
	return l.(*net.TCPListener), nil
}

// prepare makes the answers to SYNs get through to peers with TTL security; what an accepted connection sends has the
// TTL of its peer.
func (d door) prepare(fd int) error {
	if d.vrf != "" {
		if err := unix.BindToDevice(fd, d.vrf); err != nil {
			return fmt.Errorf("bind to %s: %w", d.vrf, err)
		}
	}
	if d.family == IPv4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 255)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255)
}

// check makes the kernel check the passwords of these peers and of no others.
func (l *listener) check(passwords map[netip.Addr]string) error {
	raw, err := l.socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("check passwords: %w", err)
	}
	for _, a := range slices.SortedFunc(maps.Keys(l.passwords), netip.Addr.Compare) {
		if passwords[a] == "" {
			err = errors.Join(err, l.sign(raw, a, ""))
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(passwords), netip.Addr.Compare) {
		if passwords[a] != l.passwords[a] {
			err = errors.Join(err, l.sign(raw, a, passwords[a]))
		}
	}
	return err
}

func (l *listener) sign(raw syscall.RawConn, a netip.Addr, password string) error {
	var err error
	outer := raw.Control(func(fd uintptr) { err = signed(int(fd), a, password) })
	if err = errors.Join(outer, err); err != nil {
		return fmt.Errorf("set the password of %s: %w", a, err)
	}
	delete(l.passwords, a)
	if password != "" {
		l.passwords[a] = password
	}
	return nil
}

func (l *listener) close() {
	l.socket.Close()
	<-l.done
}

// accept hands connections over until the door is closed. Strangers are shown it at once.
func (l *listener) accept(r *Room, d door) {
	defer close(l.done)
	for {
		conn, err := l.socket.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.log.Warn("cannot take a connection", "port", d.port, "why", err)
			select { // too many open files, for instance
			case <-r.life.Done():
			case <-time.After(shortestPause):
			}
			continue
		}
		if s := r.expects(d, conn); s == nil || !s.offer(conn) {
			r.log.Debug("turned away a connection", slog.String("from", conn.RemoteAddr().String()))
			_ = conn.Close()
		}
	}
}

// expects returns the session that a connection is for; nil if it is nobody's.
func (r *Room) expects(d door, conn *net.TCPConn) *session {
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		p := s.settings()
		if p.door() == d && p.isFrom(from) {
			return s
		}
	}
	return nil
}

// isFrom tells whether a connection from the address is the peer's: it is its own or, of an unnumbered one, any on the link.
func (p Peer) isFrom(from netip.Addr) bool {
	if !p.Address.IsValid() {
		return from.IsLinkLocalUnicast() && named(from.Zone()) == p.Interface
	}
	return from.WithZone("") == p.Address.WithZone("") && (p.Address.Zone() == "" || named(from.Zone()) == p.Address.Zone())
}

// named is the name of the zone, which the net package may have as a number.
func named(zone string) string {
	if strings.Trim(zone, "0123456789") != "" {
		return zone
	}
	var number int
	if _, err := fmt.Sscan(zone, &number); err != nil {
		return zone
	}
	iface, err := net.InterfaceByIndex(number)
	if err != nil {
		return zone
	}
	return iface.Name
}
