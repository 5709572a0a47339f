package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

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
func askOnce(from netip.Addr, to string) outcome {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial("udp", to)
	if err != nil {
		return outcome{failure: err.Error()}
	}
	defer func() { _ = c.Close() }()
	return ask(c)
}

func ask(c net.Conn) outcome {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
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
