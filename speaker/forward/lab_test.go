package forward

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/nft"
)

// lab is a small network out of namespaces:
//
//	client --+-- node --+-- pod      (10.244.1.100)
//	         |          +-- here     (10.244.1.1 and on: endpoints on this node)
//	         +-- node2 ---- there    (10.244.2.1 and on: endpoints elsewhere)
//
// The line that joins client, node and node2 is 172.30.0.0/24 and fd30::/64.
type lab struct {
	t                                        testing.TB
	lan, client, node, node2, pod, here, far netns.NsHandle
}

// Addresses of the lab; the IPv6 ones follow from them, see sixth.
const (
	clientAddr = "172.30.0.9"
	nodeAddr   = "172.30.0.11"
	nodeSecond = "172.30.0.111"
	node2Addr  = "172.30.0.12"
	podAddr    = "10.244.1.100"
	gateway1   = "10.244.1.254"
	gateway2   = "10.244.2.254"
)

var (
	hereAddrs = []string{"10.244.1.1", "10.244.1.2", "10.244.1.3"}
	farAddrs  = []string{"10.244.2.1", "10.244.2.2", "10.244.3.1", "10.244.9.1", "192.0.2.10"}
)

// sixth turns the lab's IPv4 addresses in a text into their IPv6 twins.
func sixth(s string) string {
	for _, r := range []struct{ from, to string }{
		{"addressType: IPv4", "addressType: IPv6"},
		{"10.244.0.0/16", "fd44::/16"},
		{"172.30.0.0/24", "fd30::/64"},
		{"0.0.0.0/0", "::/0"},
		{"198.51.100.0/24", "2001:db8:1::/64"},
	} {
		s = strings.ReplaceAll(s, r.from, r.to)
	}
	return twin.ReplaceAllStringFunc(s, func(m string) string {
		var a, b, c, d int
		if _, err := fmt.Sscanf(m, "%d.%d.%d.%d", &a, &b, &c, &d); err != nil {
			return m
		}
		switch {
		case a == 10 && b == 244:
			return fmt.Sprintf("fd44:%d::%d", c, d)
		case a == 10 && b == 96:
			return fmt.Sprintf("fd96::%d", d)
		case a == 172:
			return fmt.Sprintf("fd30::%d", d)
		case a == 203:
			return fmt.Sprintf("2001:db8::%d", d)
		case a == 192:
			return fmt.Sprintf("2001:db8:2::%d", d)
		}
		return m
	})
}

func both(s string) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(s), netip.MustParseAddr(sixth(s))}
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l := &lab{t: t}
	for _, ns := range []*netns.NsHandle{&l.lan, &l.client, &l.node, &l.node2, &l.pod, &l.here, &l.far} {
		l.in(netns.None(), func() error {
			made, err := netns.New()
			*ns = made
			return err
		})
		t.Cleanup(func() {
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	l.wire()
	for _, ns := range []netns.NsHandle{l.here, l.far} {
		l.serve(ns)
	}
	return l
}

// in runs f on a thread in the namespace; the thread ends with it.
func (l *lab) in(ns netns.NsHandle, f func() error) {
	l.t.Helper()
	if err := tryIn(ns, f); err != nil {
		l.t.Fatal(err)
	}
}

func tryIn(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if ns.IsOpen() {
			if err := netns.Set(ns); err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	return <-done
}

func (l *lab) sysctl(ns netns.NsHandle, name, value string) {
	l.t.Helper()
	l.in(ns, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// wire joins the namespaces.
func (l *lab) wire() {
	t := l.t
	t.Helper()
	for _, ns := range []netns.NsHandle{l.lan, l.client, l.node, l.node2, l.pod, l.here, l.far} {
		l.sysctl(ns, "ipv6/conf/all/accept_dad", "0")
		l.sysctl(ns, "ipv6/conf/default/accept_dad", "0")
		l.up(ns, "lo")
	}
	// The client stands for a router, too: what a node does not know and sends
	// on must not teach it that a Service's address is on the line.
	for _, name := range []string{"all", "default"} {
		l.sysctl(l.client, "ipv4/conf/"+name+"/accept_redirects", "0")
		l.sysctl(l.client, "ipv6/conf/"+name+"/accept_redirects", "0")
	}
	for _, ns := range []netns.NsHandle{l.node, l.node2} {
		l.sysctl(ns, "ipv4/ip_forward", "1")
		// The kernel bounds how many ICMP errors a host gets in a second, and counts redirects among them: one of those,
		// about a packet that left as it came, would keep back the refusal of the next.
		l.sysctl(ns, "ipv4/icmp_ratelimit", "0")
		l.sysctl(ns, "ipv6/icmp/ratelimit", "0")
		l.sysctl(ns, "ipv6/conf/all/forwarding", "1")
	}
	l.bridge("br0")
	l.port("client", l.client, clientAddr)
	l.port("node", l.node, nodeAddr, nodeSecond)
	l.port("node2", l.node2, node2Addr)
	l.attach(l.node, "pod", l.pod, gateway1, podAddr)
	l.attach(l.node, "here", l.here, gateway1, hereAddrs...)
	l.attach(l.node2, "far", l.far, gateway2, farAddrs...)
	for _, far := range []string{"10.244.2.0/24", "10.244.3.0/24", "10.244.9.0/24", "192.0.2.0/24"} {
		l.route(l.node, far, node2Addr)
	}
	l.route(l.node2, "10.244.1.0/24", nodeAddr)
	for _, ours := range []string{"10.96.0.0/24", "203.0.113.0/24", "172.30.0.200/32", "10.244.1.0/24"} {
		l.route(l.client, ours, nodeAddr)
	}
	l.route(l.client, "10.244.2.0/24", node2Addr)
	// A route the packets of this node itself need before they are translated.
	l.route(l.node, "0.0.0.0/0", clientAddr)
	l.route(l.node2, "0.0.0.0/0", nodeAddr)
}

func (l *lab) handle(ns netns.NsHandle) *netlink.Handle {
	l.t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) up(ns netns.NsHandle, name string) {
	l.t.Helper()
	h := l.handle(ns)
	defer h.Close()
	link, err := h.LinkByName(name)
	l.check(err)
	l.check(h.LinkSetUp(link))
}

func (l *lab) bridge(name string) {
	l.t.Helper()
	h := l.handle(l.lan)
	defer h.Close()
	l.check(h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
	l.up(l.lan, name)
}

// port plugs a namespace's eth0 into the line.
func (l *lab) port(name string, ns netns.NsHandle, addrs ...string) {
	l.t.Helper()
	h := l.handle(l.lan)
	defer h.Close()
	l.check(h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}))
	link, err := h.LinkByName(name)
	l.check(err)
	br, err := h.LinkByName("br0")
	l.check(err)
	l.check(h.LinkSetMaster(link, br))
	l.up(l.lan, name)
	for _, a := range addrs {
		l.address(ns, "eth0", a, 24, 64)
	}
	l.up(ns, "eth0")
}

func (l *lab) address(ns netns.NsHandle, dev, addr string, bits4, bits6 int) {
	l.t.Helper()
	h := l.handle(ns)
	defer h.Close()
	link, err := h.LinkByName(dev)
	l.check(err)
	for _, a := range both(addr) {
		bits := bits4
		if a.Is6() {
			bits = bits6
		}
		l.check(h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}))
	}
}

// attach joins a pod's namespace to a node by a line of its own.
func (l *lab) attach(node netns.NsHandle, name string, pod netns.NsHandle, gateway string, addrs ...string) {
	l.t.Helper()
	h := l.handle(node)
	defer h.Close()
	l.check(h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod)}))
	l.address(node, name, gateway, 32, 128)
	l.up(node, name)
	for _, a := range addrs {
		l.address(pod, "eth0", a, 32, 128)
	}
	l.up(pod, "eth0")
	link, err := h.LinkByName(name)
	l.check(err)
	for _, s := range addrs {
		for _, a := range both(s) {
			l.check(h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: host(a)}))
		}
	}
	p := l.handle(pod)
	defer p.Close()
	eth0, err := p.LinkByName("eth0")
	l.check(err)
	for _, g := range both(gateway) {
		l.check(p.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: host(g), Scope: netlink.SCOPE_LINK}))
		l.check(p.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: g.AsSlice()}))
	}
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// route sends a range through a gateway, and its twin through the gateway's.
func (l *lab) route(ns netns.NsHandle, to, via string) {
	l.t.Helper()
	h := l.handle(ns)
	defer h.Close()
	v4 := netip.MustParsePrefix(to)
	v6 := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if v4.Bits() > 0 {
		v6 = netip.PrefixFrom(netip.MustParseAddr(sixth(v4.Addr().String())), map[int]int{24: 64, 32: 128}[v4.Bits()])
	}
	for i, p := range []netip.Prefix{v4, v6} {
		gw := both(via)[i]
		l.check(h.RouteReplace(&netlink.Route{Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Gw: gw.AsSlice()}))
	}
}

// ports are what endpoints listen on, TCP and UDP.
var ports = []int{8080, 9090, 53, 5353}

// serve answers each connection and datagram with where it arrived and whence it came.
func (l *lab) serve(ns netns.NsHandle) {
	l.t.Helper()
	for _, p := range ports {
		l.in(ns, func() error { return l.listen(p) })
	}
}

func (l *lab) listen(p int) error {
	tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", p))
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
			go answer(c)
		}
	}()
	return nil
}

// answer says once where the connection arrived, and repeats what it hears.
func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	if _, err := fmt.Fprintf(c, "%s %s\n", c.LocalAddr(), c.RemoteAddr()); err != nil {
		return
	}
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := c.Write([]byte(line)); err != nil {
			return
		}
	}
}

// table opens the node's forwarding table.
func (l *lab) table(bell chan<- struct{}) *nft.Table {
	l.t.Helper()
	var table *nft.Table
	l.in(l.node, func() error {
		var err error
		table, err = nft.Open(slog.New(slog.NewTextHandler(l.t.Output(), nil)), bell)
		return err
	})
	l.t.Cleanup(func() {
		if err := table.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return table
}

func (l *lab) static() nft.Static {
	n := testNode()
	return nft.Static{PodCIDRs: n.PodCIDRs, ServiceCIDRs: n.ServiceCIDRs, NodePortAddresses: both(nodeAddr)}
}
