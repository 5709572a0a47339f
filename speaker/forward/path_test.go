package forward

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/speaker/nft"
)

// front is a Service with a ClusterIP and a node port in both families.
func front(proto nft.Proto, port, nodePort uint16, ep string) nft.Service {
	s := simple(proto, port, nil, ep)
	for i, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		s.Frontends = append(s.Frontends, nft.Frontend{Addr: any, Proto: proto, Port: nodePort, Kind: nft.External, Target: i, Short: nft.None})
	}
	return s
}

// TestLargeDatagrams sends datagrams in fragments, to a ClusterIP and to a node
// port: what conntrack has put together is translated as a whole.
func TestLargeDatagrams(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.mirror(l.far, "10.244.2.1", 7000)
	l.apply(table, map[string]nft.Service{"a/b": front(nft.UDP, 80, 30080, "10.244.2.1:7000")})
	eachFamily(t, func(t *testing.T, in func(string) string) {
		for _, c := range []struct {
			from netns.NsHandle
			to   string
		}{{l.pod, vip + ":80"}, {l.node, vip + ":80"}, {l.client, nodeAddr + ":30080"}} {
			for _, size := range []int{1, 1472, 1473, 4000, 60000} {
				l := *l
				l.t = t
				l.in(c.from, func() error { return exchange(in(c.to), size) })
			}
		}
	})
}

// mirror sends every datagram back as it came.
func (l *lab) mirror(ns netns.NsHandle, addr string, port uint16) {
	l.t.Helper()
	for _, a := range both(addr) {
		l.in(ns, func() error {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
			if err != nil {
				return err
			}
			l.t.Cleanup(func() { _ = c.Close() })
			go func() {
				for buf := make([]byte, 1<<16); ; {
					n, from, err := c.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
			return nil
		})
	}
}

// exchange sends a datagram of a size and expects the same back.
func exchange(to string, size int) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(longPatience)); err != nil {
		return err
	}
	want := bytes.Repeat([]byte{byte(size)}, size)
	if _, err := c.Write(want); err != nil {
		return err
	}
	have := make([]byte, 1<<16)
	n, err := c.Read(have)
	if err != nil || !bytes.Equal(have[:n], want) {
		return fmt.Errorf("%d bytes to %s: %d came back: %w", size, to, n, err)
	}
	return nil
}

// TestPathMTU narrows the way behind the second node. Who sends too much hears
// of it in an ICMP error that names the address it had called, and sends less.
func TestPathMTU(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.swallow(l.far, 7001)
	l.apply(table, map[string]nft.Service{"a/b": front(nft.TCP, 80, 30080, "10.244.2.1:7001")})
	h := l.handle(l.node2)
	defer h.Close()
	link, err := h.LinkByName("far")
	l.check(err)
	l.check(h.LinkSetMTU(link, 1280))
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		l.in(l.pod, func() error { return pour(in(vip+":80"), 200_000) })
		l.in(l.client, func() error { return pour(in(nodeAddr+":30080"), 200_000) })
		addr := netip.MustParseAddrPort(in(vip + ":80")).Addr().String()
		if route := l.run(l.pod, "ip", "route", "get", addr); !strings.Contains(route, "mtu 1280") {
			t.Errorf("the pod did not hear of the narrow way: %s", route)
		}
	})
}

// swallow counts what each connection sends and says how much it was.
func (l *lab) swallow(ns netns.NsHandle, port int) {
	l.t.Helper()
	l.in(ns, func() error {
		tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { _ = tcp.Close() })
		go func() {
			for {
				c, err := tcp.Accept()
				if err != nil {
					return
				}
				go func() {
					n, _ := io.Copy(io.Discard, c)
					_, _ = fmt.Fprintln(c, n)
					_ = c.Close()
				}()
			}
		}()
		return nil
	})
}

// pour sends so many bytes and expects that all of them arrive.
func pour(to string, size int) error {
	c, err := net.DialTimeout("tcp", to, longPatience)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(longPatience)); err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var n int
	if _, err := fmt.Fscan(c, &n); err != nil || n != size {
		return fmt.Errorf("%d of %d bytes arrived by way of %s: %w", n, size, to, err)
	}
	return nil
}

// TestErrorsComeBack: an endpoint's ICMP error about a datagram reaches who
// sent it, as if the Service had said so.
func TestErrorsComeBack(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.apply(table, map[string]nft.Service{"a/b": front(nft.UDP, 80, 30080, "10.244.2.1:9")})
	eachFamily(t, func(t *testing.T, in func(string) string) {
		for to, from := range map[string]netns.NsHandle{vip + ":80": l.pod, nodeAddr + ":30080": l.client} {
			l := *l
			l.t = t
			l.in(from, func() error {
				if out := askOnce(longPatience, netip.Addr{}, in(to)); out.failure != "refused" {
					return fmt.Errorf("%s: %+v", to, out)
				}
				return nil
			})
		}
	})
}

// TestClusterIPIsNotPinged: an address of a Service is no host.
func TestClusterIPIsNotPinged(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, "10.244.1.1:8080")})
	for i, a := range append(both(vip), both("10.96.0.77")...) {
		for _, ns := range []netns.NsHandle{l.pod, l.client} {
			if err := tryIn(ns, func() error { return ping(patience, a, byte(10+i)) }); err == nil {
				t.Errorf("%s was pinged", a)
			}
		}
	}
}

// traces counts packets that leave with what we wrote on them.
const traces = `table inet probe {
	chain post {
		type filter hook postrouting priority 150
		meta mark & 0x4000 != 0 counter
		ct status dnat meta priority & 0xffff0000 != 0 counter
	}
}`

// TestNothingIsLeftOnPackets: the mark and the token are gone before a packet leaves,
// for a tunnel's outer packet would inherit them.
func TestNothingIsLeftOnPackets(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.run(l.node, "nft", traces)
	s := front(nft.TCP, 80, 30080, "10.244.2.1:8080")
	for _, seconds := range []uint32{0, 60} {
		for i := range s.Targets {
			s.Targets[i].Affinity = seconds
		}
		l.apply(table, map[string]nft.Service{"a/b": s})
		eachFamily(t, func(t *testing.T, in func(string) string) {
			l := *l
			l.t = t
			l.only(l.pod, in(vip+":80"), 3)
			l.only(l.node, in(vip+":80"), 3)
			l.only(l.client, in(nodeAddr+":30080"), 3)
		})
	}
	if n := l.counted(traces); n > 0 {
		t.Errorf("%d packets left with a mark or a token", n)
	}
}

// TestServiceCIDRComes: addresses that nobody has are dropped as soon as the
// cluster says that they are a Service's, and no longer when it does not.
func TestServiceCIDRComes(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, "10.244.1.1:8080")})
	// Somebody behind the default route has that address, and no such port.
	l.address(l.client, "eth0", "10.96.0.77", 32, 128)
	want := map[bool]string{true: "dropped", false: "refused"}
	limits := map[bool]time.Duration{true: patience, false: longPatience}
	for _, known := range []bool{true, false, true} {
		static := l.static()
		if !known {
			static.ServiceCIDRs = nil
		}
		_, err := table.Apply(context.Background(), nft.Wish{Static: static})
		l.check(err)
		eachFamily(t, func(t *testing.T, in func(string) string) {
			l := *l
			l.t = t
			l.in(l.pod, func() error {
				if out := dialOnce(limits[known], netip.Addr{}, in("10.96.0.77:80")); out.failure != want[known] {
					return fmt.Errorf("known %t: %+v", known, out)
				}
				c, err := net.DialTimeout("tcp", in(vip+":80"), longPatience)
				if err != nil {
					return err
				}
				return c.Close()
			})
		})
	}
}
