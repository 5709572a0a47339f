package forward

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long to wait for the answer to what should be dropped.
const patience = 400 * time.Millisecond

// outcome is what became of one try.
type outcome struct {
	endpoint, seen string // host:port that answered, host it saw
	failure        string // "refused", "dropped", or an error
}

// longPatience is for what must not be dropped: a busy machine may have no time
// for this process for longer than a packet takes. A connection that lost its first packet is a failure all the same.
const longPatience = 20 * time.Second

// dialOnce tries a TCP connection from an address, or from any if that is not valid.
func dialOnce(limit time.Duration, from netip.Addr, to string) outcome {
	d := net.Dialer{Timeout: limit}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial("tcp", to)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return outcome{failure: "refused"}
	case timedOut(err):
		return outcome{failure: "dropped"}
	case err != nil:
		return outcome{failure: err.Error()}
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return outcome{failure: err.Error()}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return outcome{failure: "dropped"}
	}
	if lost(c.(*net.TCPConn)) {
		return outcome{failure: "sent again"}
	}
	return parseAnswer(line)
}

// lost tells whether a connection's first packet had to be sent again because
// it was lost. One that was only late is answered late: the timestamp in the
// answer is that of the first one, and the round trip as long as the second it took TCP to send again.
func lost(c *net.TCPConn) bool {
	var info *unix.TCPInfo
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	}
	if err != nil || info == nil {
		return false
	}
	return info.Total_retrans > 0 && time.Duration(info.Rtt)*time.Microsecond < time.Second/2
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func parseAnswer(line string) outcome {
	var local, peer string
	if _, err := fmt.Sscanf(line, "%s %s", &local, &peer); err != nil {
		return outcome{failure: fmt.Sprintf("strange answer %q", line)}
	}
	from := netip.MustParseAddrPort(peer)
	return outcome{endpoint: unmap(local), seen: from.Addr().Unmap().String()}
}

func unmap(s string) string {
	a := netip.MustParseAddrPort(s)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// hear answers datagrams at one address: a socket for all addresses would
// answer from another one than was asked.
func (l *lab) hear(ns netns.NsHandle, addr string, port int) {
	l.t.Helper()
	for _, a := range both(addr) {
		l.in(ns, func() error {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(port))))
			if err != nil {
				return err
			}
			l.t.Cleanup(func() { _ = c.Close() })
			go echo(c)
			return nil
		})
	}
}

func echo(c *net.UDPConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if _, err := c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s\n", c.LocalAddr(), from), from); err != nil {
			return
		}
	}
}

// askOnce sends one datagram and waits for the answer.
func askOnce(limit time.Duration, from netip.Addr, to string) outcome {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial("udp", to)
	if err != nil {
		return outcome{failure: err.Error()}
	}
	defer func() { _ = c.Close() }()
	return ask(limit, c)
}

func ask(limit time.Duration, c net.Conn) outcome {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return outcome{failure: err.Error()}
	}
	_, err := c.Write([]byte("who?\n"))
	buf := make([]byte, 200)
	var n int
	if err == nil {
		n, err = c.Read(buf)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return outcome{failure: "refused"}
	case timedOut(err):
		return outcome{failure: "dropped"}
	case err != nil:
		return outcome{failure: err.Error()}
	}
	return parseAnswer(string(buf[:n]))
}
