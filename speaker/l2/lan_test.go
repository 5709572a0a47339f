package l2

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/links"
)

// patience is how long a test waits for something that must come.
const patience = 5 * time.Second

// lan is a bridge in a network namespace of its own, which hosts are plugged into.
type lan struct {
	t      testing.TB
	prefix string
	hub    *host
	bridge netlink.Link
}

// host is a network namespace: a computer with a kernel of its own.
type host struct {
	t    testing.TB
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle
	n    byte
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	l := &lan{t: t, prefix: "fl-l2-" + hex.EncodeToString(b)}
	l.hub = l.namespace("hub")
	// A switch has no addresses: what it would say for itself disturbs.
	l.hub.do(func() {
		l.hub.sysctl("ipv6/conf/default/disable_ipv6", "1")
		for _, table := range []string{"arp", "ip", "ip6"} {
			// Nor does it look into frames, where the kernel would have it filter them.
			_ = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+table+"tables", []byte("0"), 0o644)
		}
	})
	a := netlink.NewLinkAttrs()
	a.Name = "br0"
	snooping := false // it drops multicast while it learns
	must(t, l.hub.nl.LinkAdd(&netlink.Bridge{LinkAttrs: a, MulticastSnooping: &snooping}))
	l.bridge = l.hub.link("br0")
	must(t, l.hub.nl.LinkSetUp(l.bridge))
	return l
}

func (l *lan) namespace(name string) *host {
	h := &host{t: l.t, name: name}
	full := l.prefix + "-" + name
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(l.t, err)
	defer home.Close()
	h.ns, err = netns.NewNamed(full)
	must(l.t, netns.Set(home))
	must(l.t, err)
	l.t.Cleanup(func() {
		h.ns.Close()
		if err := netns.DeleteNamed(full); err != nil {
			l.t.Errorf("delete namespace %s: %v", full, err)
		}
	})
	h.nl, err = netlink.NewHandleAt(h.ns)
	must(l.t, err)
	l.t.Cleanup(h.nl.Close)
	return h
}

// host makes a computer with eth0 on the LAN; n is the last byte of its addresses.
func (l *lan) host(name string, n byte) *host {
	l.t.Helper()
	h := l.namespace(name)
	h.n = n
	h.do(func() {
		h.sysctl("ipv6/conf/default/router_solicitations", "0")
	})
	l.plug(h)
	return h
}

// plug gives the host its eth0, on the LAN, up and with addresses.
func (l *lan) plug(h *host) {
	l.t.Helper()
	port := fmt.Sprintf("port%d", h.n)
	a := netlink.NewLinkAttrs()
	a.Name = port
	must(l.t, l.hub.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: a, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns), PeerHardwareAddr: h.mac(),
	}))
	p := l.hub.link(port)
	must(l.t, l.hub.nl.LinkSetMaster(p, l.bridge))
	must(l.t, l.hub.nl.LinkSetUp(p))
	h.do(func() {
		h.sysctl("ipv6/conf/eth0/accept_dad", "0")
		for _, family := range []string{"ipv4", "ipv6"} {
			h.sysctl(family+"/neigh/eth0/retrans_time_ms", "100") // to give up soon
		}
	})
	h.addr("eth0", fmt.Sprintf("192.0.2.%d/24", h.n))
	h.addr("eth0", fmt.Sprintf("2001:db8::%d/64", h.n))
	must(l.t, h.nl.LinkSetUp(h.link("eth0")))
	h.await("the link", func() bool {
		return h.snapshotLink("eth0").Usable() && l.hub.snapshotLink(port).Running
	})
}

func (h *host) mac() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, h.n} }

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	must(h.t, err)
	return l
}

func (h *host) addr(link, cidr string) {
	h.t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(h.t, err)
	a.Flags |= unix.IFA_F_NODAD
	must(h.t, h.nl.AddrAdd(h.link(link), a))
}

func (h *host) sysctl(name, value string) {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
		panic(err)
	}
}

// do runs f in the host's namespace. f must not end the test: it is on another goroutine.
func (h *host) do(f func()) {
	h.t.Helper()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		runtime.LockOSThread()
		var home netns.NsHandle
		if home, err = netns.Get(); err != nil {
			return
		}
		defer home.Close()
		if err = netns.Set(h.ns); err != nil {
			return
		}
		f()
		if err = netns.Set(home); err == nil {
			runtime.UnlockOSThread() // otherwise the thread dies with the goroutine
		}
	})
	wg.Wait()
	must(h.t, err)
}

func (h *host) snapshot() (ls []links.Link) {
	h.t.Helper()
	var err error
	h.do(func() { ls, err = links.Snapshot() })
	must(h.t, err)
	return ls
}

func (h *host) snapshotLink(name string) links.Link {
	for _, l := range h.snapshot() {
		if l.Name == name {
			return l
		}
	}
	return links.Link{}
}

// await polls for what the kernel does in its own time.
func (h *host) await(what string, f func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("%s: waited %s for %s", h.name, patience, what)
		}
	}
}

// talk makes the kernel send something to addr, for which it needs a neighbour.
func (h *host) talk(addr netip.Addr) {
	h.t.Helper()
	var err error
	h.do(func() {
		var c net.Conn
		if c, err = net.Dial("udp", netip.AddrPortFrom(addr, 9).String()); err == nil {
			_, _ = c.Write([]byte("hello")) // fails if a former one is known to have failed
			c.Close()
		}
	})
	must(h.t, err)
}

// neighbour is the kernel's entry for addr: its state and MAC.
func (h *host) neighbour(addr netip.Addr) (state int, mac string) {
	h.t.Helper()
	family := unix.AF_INET6
	if addr.Is4() {
		family = unix.AF_INET
	}
	entries, err := h.nl.NeighList(h.link("eth0").Attrs().Index, family)
	must(h.t, err)
	for _, e := range entries {
		if got, _ := netip.AddrFromSlice(e.IP); got.Unmap() == addr {
			return e.State, e.HardwareAddr.String()
		}
	}
	return unix.NUD_NONE, ""
}

// setNeighbour changes the entry's state.
func (h *host) setNeighbour(addr netip.Addr, mac net.HardwareAddr, state int) {
	h.t.Helper()
	must(h.t, h.nl.NeighSet(&netlink.Neigh{
		LinkIndex: h.link("eth0").Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac, State: state,
	}))
}

// forget removes the entry, and a failed one with it. While a packet still refers to the entry it is only marked as
// failed, and an announcement that comes just then fills it again.
func (h *host) forget(addr netip.Addr) {
	h.t.Helper()
	h.await("an empty entry", func() bool {
		_ = h.nl.NeighDel(&netlink.Neigh{LinkIndex: h.link("eth0").Attrs().Index, IP: addr.AsSlice()})
		s, _ := h.neighbour(addr)
		return s == unix.NUD_NONE || s == unix.NUD_FAILED
	})
}

// resolves asks the kernel for addr's station and waits until it has the wanted one.
func (h *host) resolves(addr netip.Addr, want net.HardwareAddr) {
	h.t.Helper()
	h.forget(addr)
	h.talk(addr)
	h.has(addr, want)
}

// has waits until the kernel believes addr is at the wanted station.
func (h *host) has(addr netip.Addr, want net.HardwareAddr) {
	h.t.Helper()
	h.await(fmt.Sprintf("%s at %s", addr, want), func() bool {
		state, mac := h.neighbour(addr)
		return mac == want.String() && state&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY) != 0
	})
}

// fails asks the kernel for addr's station and waits until it has given up.
func (h *host) fails(addr netip.Addr) {
	h.t.Helper()
	h.forget(addr)
	h.talk(addr)
	h.await(fmt.Sprintf("%s to fail", addr), func() bool {
		state, _ := h.neighbour(addr)
		if state&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY) != 0 {
			h.t.Fatalf("%s: %s is answered for", h.name, addr)
		}
		return state == unix.NUD_FAILED
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// station is a Responder on a host.
type station struct {
	*host
	r    *Responder
	bell chan struct{}
}

func (h *host) responder() *station {
	s := &station{host: h, bell: make(chan struct{}, 1)}
	s.r = New(quietLog(), s.bell)
	s.r.Timing.Series = []time.Duration{0, 20 * time.Millisecond, 110 * time.Millisecond, 220 * time.Millisecond}
	s.r.Timing.Refresh = 0
	h.t.Cleanup(func() { must(h.t, s.r.Close()) })
	return s
}

// apply wishes for addresses on eth0.
func (s *station) apply(addrs ...netip.Addr) Report {
	s.t.Helper()
	var want []Announcement
	for _, a := range addrs {
		want = append(want, Announcement{Address: a, Links: []string{"eth0"}})
	}
	return s.applyAll(want)
}

func (s *station) applyAll(want []Announcement) (got Report) {
	s.t.Helper()
	var err error
	s.do(func() {
		var ls []links.Link
		if ls, err = links.Snapshot(); err == nil {
			got, err = s.r.Apply(s.t.Context(), want, ls)
		}
	})
	must(s.t, err)
	return got
}

// state is how the only address of the report stands.
func (s *station) state() State {
	s.t.Helper()
	got := s.r.Report()
	if len(got.States) != 1 {
		s.t.Fatalf("want one state, have %+v", got.States)
	}
	return got.States[0]
}

func (s *station) rings(what string) {
	s.t.Helper()
	select {
	case <-s.bell:
	case <-time.After(patience):
		s.t.Fatalf("%s: no bell for %s", s.name, what)
	}
}

func (s *station) probe(addr netip.Addr, wait time.Duration) (got []Sighting) {
	s.t.Helper()
	var err error
	s.do(func() {
		var ls []links.Link
		if ls, err = links.Snapshot(); err == nil {
			got, err = s.r.Probe(s.t.Context(), []Announcement{{Address: addr, Links: []string{"eth0"}}}, ls, wait)
		}
	})
	must(s.t, err)
	return got
}
