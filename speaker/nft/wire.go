package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer and receiveBuffer hold a whole transaction and its errors:
	// the kernel takes one transaction in one write, and what does not fit in
	// the receive buffer is lost although it was committed.
	sendBuffer    = 256 << 20
	receiveBuffer = 16 << 20
	dumpBuffer    = 64 << 10
	answerSeconds = 30
)

// wire is a netlink socket to netfilter. The kernel works within the write, so
// a blocking socket needs no goroutine.
type wire struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte
}

func dial() (*wire, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	w := &wire{fd: fd, buf: make([]byte, dumpBuffer)}
	if err := w.setup(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up netfilter netlink socket: %w", err), unix.Close(fd))
	}
	return w, nil
}

func (w *wire) setup() error {
	if err := unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	name, err := unix.Getsockname(w.fd)
	if err != nil {
		return err
	}
	if addr, ok := name.(*unix.SockaddrNetlink); ok {
		w.port = addr.Pid
	}
	return errors.Join(
		forceBuffer(w.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer),
		forceBuffer(w.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer),
		unix.SetsockoptInt(w.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptInt(w.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerSeconds}),
	)
}

// forceBuffer falls back to what the system's limit allows: small change sets
// still go through then, and big ones fail loudly.
func forceBuffer(fd, force, plain, size int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size); err == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
}

func (w *wire) close() error { return unix.Close(w.fd) }

func (w *wire) next() uint32 {
	w.seq++
	return w.seq
}

func (w *wire) send(b []byte) error {
	return unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// message is one message out of an answer.
type message struct {
	typ, flags uint16
	seq        uint32
	data       []byte
}

// receive reads one datagram. The messages are valid until the next call.
func (w *wire) receive() ([]message, error) {
	n, _, err := unix.Recvfrom(w.fd, w.buf, 0)
	if err != nil {
		return nil, err
	}
	return split(w.buf[:n]), nil
}

func split(b []byte) []message {
	var out []message
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return out
		}
		out = append(out, message{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			data:  b[headerLen:size],
		})
		b = b[min(len(b), (size+3)&^3):]
	}
	return out
}

// errInterrupted says that the kernel's state changed during a dump.
var errInterrupted = errors.New("dump interrupted by a change")

// dump sends a request and calls each with every answer's type and attributes
// (behind struct nfgenmsg).
func (w *wire) dump(typ uint16, family uint8, fill func(*buffer), each func(typ uint16, attrs []byte)) error {
	return w.ask(typ, unix.NLM_F_DUMP, family, fill, each)
}

// ask is dump with NLM_F_DUMP, and with NLM_F_ACK a request for the one object that fill names.
func (w *wire) ask(typ, flags uint16, family uint8, fill func(*buffer), each func(typ uint16, attrs []byte)) error {
	var req buffer
	seq := w.next()
	start := req.message(typ, unix.NLM_F_REQUEST|flags, family, 0)
	if fill != nil {
		fill(&req)
	}
	req.done(start, seq)
	if err := w.send(req.b); err != nil {
		return err
	}
	interrupted := false
	for {
		messages, err := w.receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.seq != seq {
				continue // the rest of an answer somebody gave up on
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE:
				if interrupted {
					return errInterrupted
				}
				return nil
			case unix.NLMSG_ERROR:
				return answerError(m)
			}
			if len(m.data) >= genmsgLen {
				each(m.typ, m.data[genmsgLen:])
			}
		}
	}
}

// answerError is the error in an NLMSG_ERROR message, nil for an acknowledgement.
func answerError(m message) error {
	const errorLen = 4 + headerLen
	if len(m.data) < errorLen {
		return unix.EBADMSG
	}
	code := int32(binary.NativeEndian.Uint32(m.data))
	if code == 0 {
		return nil
	}
	err := unix.Errno(-code)
	if m.flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	if why := text(attribute(m.data[errorLen:], unix.NLMSGERR_ATTR_MSG)); why != "" {
		return fmt.Errorf("%w (%s)", err, why)
	}
	return err
}

// transact sends messages that end with one to be acknowledged, numbered last, and waits for
// that. It joins the first few errors the kernel names. After any error nothing
// may be believed about what the kernel holds.
func (w *wire) transact(b []byte, first, last uint32, name func(seq uint32) string) error {
	if err := w.send(b); err != nil {
		return fmt.Errorf("send %d bytes: %w", len(b), err)
	}
	const enough = 5
	var errs []error
	for {
		messages, err := w.receive()
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("await acknowledgement: %w", err))...)
		}
		for _, m := range messages {
			if m.typ != unix.NLMSG_ERROR || m.seq < first || m.seq > last {
				continue
			}
			if err := answerError(m); err != nil && len(errs) < enough {
				errs = append(errs, fmt.Errorf("%s: %w", name(m.seq), err))
			}
			if m.seq == last || m.seq == first {
				return errors.Join(errs...)
			}
		}
	}
}
