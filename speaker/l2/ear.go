package l2

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/links"
)

// wish is what an ear acts on. It is never changed, only replaced.
type wish struct {
	own    mac
	ours   map[mac]bool // of all our links: what one link sends, another may hear
	duties map[netip.Addr]*duty
}

// ear is one socket: one protocol on one link. It is bound to the link's index, so it
// never outlives the link; a link that comes back is a new one.
type ear struct {
	link    links.Link
	proto   protocol
	conn    *packet.Conn
	raw     syscall.RawConn
	wish    atomic.Pointer[wish]
	limiter limiter
	ring    func()
	log     *slog.Logger

	malformed, ignored atomic.Uint64
	broken             atomic.Bool // the listener has given up; open a new ear
	listener           sync.WaitGroup
	dropped            uint64 // so far; guarded by the Responder's lock
}

// openEar opens the socket; it hears nothing before it is given a wish.
func openEar(l links.Link, p protocol, addrs []netip.Addr) (*ear, error) {
	filter, err := filterFor(p, addrs)
	if err != nil {
		return nil, fmt.Errorf("make filter for %s: %w", l.Name, err)
	}
	ifi := &net.Interface{Index: l.Index, Name: l.Name, MTU: l.MTU, HardwareAddr: l.MAC}
	conn, err := packet.Listen(ifi, packet.Raw, p.etherType(), &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", l.Name, err)
	}
	if l.Wireless {
		// Access points and drivers keep broadcasts for addresses the station does not have.
		err = conn.SetPromiscuous(true)
	}
	raw, rawErr := conn.SyscallConn()
	if rawErr == nil {
		rawErr = setReceiveBuffer(raw)
	}
	if err := errors.Join(err, rawErr); err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", l.Name, err)
	}
	return &ear{link: l, proto: p, conn: conn, raw: raw, ring: func() {}}, nil
}

// receiveBuffer holds some ten thousand small frames: what a flood of 50,000 a second
// brings while the listener waits its turn for a fifth of a second on a busy node. With
// the system's default a question among them is lost, and asked again a second later.
const receiveBuffer = 4 << 20

func setReceiveBuffer(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) {
		// Without NET_ADMIN the system's limit holds, which is no reason not to listen.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
	return errors.Join(err, set)
}

// send hands one frame to the kernel without ever waiting: a link that is stuck must not
// hold up the others.
func (e *ear) send(frame []byte) error {
	var sent error
	err := e.raw.Control(func(fd uintptr) {
		_, sent = unix.Write(int(fd), frame)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("send on %s: %w", e.link.Name, err)
	}
	return nil
}

// hear makes the ear listen to these addresses from now on.
func (e *ear) hear(w *wish, addrs []netip.Addr) error {
	filter, err := filterFor(e.proto, addrs)
	if err != nil {
		return fmt.Errorf("make filter for %s: %w", e.link.Name, err)
	}
	// First those who answer, then what they hear: between the two nothing is heard that
	// nobody wants.
	e.wish.Store(w)
	if err := e.conn.SetBPF(filter); err != nil {
		return fmt.Errorf("filter on %s: %w", e.link.Name, err)
	}
	return nil
}

func (e *ear) start() { e.listener.Go(e.listen) }

func (e *ear) listen() {
	buf := make([]byte, snapLen)
	for {
		n, _, err := e.conn.ReadFrom(buf)
		switch {
		case err == nil:
			e.take(buf[:n], time.Now())
		case errors.Is(err, unix.ENETDOWN):
			// Said once when the link goes down; what becomes of the link is told by netlink.
		case closed(err):
			return
		default:
			e.log.Warn("listening ended, opening the socket again", "link", e.link.Name, "error", err)
			e.broken.Store(true)
			e.ring()
			return
		}
	}
}

// take acts on one frame.
func (e *ear) take(frame []byte, now time.Time) {
	h, err := e.proto.parse(frame)
	if err != nil {
		e.malformed.Add(1)
		return
	}
	w := e.wish.Load()
	claimed, asked := w.duties[h.claims], w.duties[h.asks]
	if claimed != nil && !w.ours[h.from] {
		e.contest(claimed, h.from, now)
	}
	switch {
	case asked == nil && claimed == nil, h.to != w.own && h.to[0]&1 == 0:
		e.ignored.Add(1)
	case asked != nil:
		e.reply(asked, h, w.own, now)
	}
}

// contest notes that another host says an address is its own. Whether that host is right
// is not decided here, but a handover waits for just this.
func (e *ear) contest(d *duty, m mac, now time.Time) {
	news := d.saw(m, now)
	if d.until.Load() != nil && !d.handed.Swap(true) {
		news = true
	}
	if news {
		e.ring()
	}
}

func (e *ear) reply(d *duty, h heard, own mac, now time.Time) {
	d.received.Add(1)
	if d.over(now) {
		return
	}
	if !e.limiter.allow(h.from, now) {
		d.limited.Add(1)
		return
	}
	frame, err := e.proto.answer(h, own)
	if err == nil {
		err = e.send(frame)
	}
	if err != nil {
		d.failed.Add(1)
		return
	}
	d.answered.Add(1)
}

// announce tells everybody on the link, unasked.
func (e *ear) announce(d *duty) {
	frames, err := e.proto.announce(d.addr, e.wish.Load().own)
	if err != nil {
		d.failed.Add(1)
		return
	}
	for _, f := range frames {
		if err := e.send(f); err != nil {
			d.failed.Add(1)
			continue
		}
		d.gratuitous.Add(1)
	}
}

// counters are the ear's own.
func (e *ear) counters() LinkCounters {
	return LinkCounters{Malformed: e.malformed.Load(), Ignored: e.ignored.Load(), Dropped: e.drops()}
}

// drops counts the frames the kernel could not deliver; asking resets the kernel's count.
func (e *ear) drops() uint64 {
	if s, err := e.conn.Stats(); err == nil {
		e.dropped += uint64(s.Drops)
	}
	return e.dropped
}

// close ends the ear; nothing is sent once it has returned.
func (e *ear) close() error {
	err := e.conn.Close()
	e.listener.Wait()
	if err != nil && !closed(err) {
		return fmt.Errorf("close socket on %s: %w", e.link.Name, err)
	}
	return nil
}

// closed tells whether an error says that we have closed the socket ourselves: reading says it
// in the words of files, not of the network.
func closed(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) }
