package links

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func TestUnusable(t *testing.T) {
	good := Link{
		Name: "eth0", Kind: "device", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true, LowerUp: true, Running: true,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	}
	tests := map[string]struct {
		change func(*Link)
		want   string
	}{
		"plain":               {func(*Link) {}, ""},
		"without a subnet":    {func(l *Link) { l.Prefixes = nil }, ""},
		"loopback":            {func(l *Link) { l.Loopback = true }, "is a loopback interface"},
		"tunnel":              {func(l *Link) { l.MAC = nil }, "has no Ethernet address"},
		"NOARP":               {func(l *Link) { l.NoARP = true }, "does neither ARP nor NDP (NOARP)"},
		"bridge port":         {func(l *Link) { l.Master, l.Port = 7, true }, "is a port of a bridge or bond"},
		"VRF member":          {func(l *Link) { l.Master = 7 }, ""},
		"set down":            {func(l *Link) { l.Up, l.LowerUp = false, false }, "is set down"},
		"cable out":           {func(l *Link) { l.LowerUp, l.Running = false, false }, "has no carrier"},
		"cable just in":       {func(l *Link) { l.Running = false }, "is not running yet"},
		"veth with a subnet":  {func(l *Link) { l.Kind = "veth" }, ""},
		"veth of a pod":       {func(l *Link) { l.Kind, l.Prefixes = "veth", nil }, "is a veth without a subnet, as pods have"},
		"veth, host and fe80": {func(l *Link) { l.Kind, l.Prefixes = "veth", hostPrefixes() }, "is a veth without a subnet, as pods have"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := good
			tt.change(&l)
			if diff := cmp.Diff(tt.want, l.Unusable()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if l.Usable() != (tt.want == "") {
				t.Errorf("Usable() = %v, Unusable() = %q", l.Usable(), l.Unusable())
			}
		})
	}
}

func hostPrefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("169.254.1.1/32"), netip.MustParsePrefix("fe80::1/64")}
}

func TestContains(t *testing.T) {
	l := Link{Prefixes: append(hostPrefixes(),
		netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"))}
	tests := map[string]bool{
		"192.0.2.200": true, "192.0.3.1": false, "169.254.1.1": false,
		"2001:db8::200": true, "2001:db8:1::1": false, "fe80::2": false,
	}
	for addr, want := range tests {
		if got := l.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %v, want %v", addr, got, want)
		}
	}
}

func TestParseShortMessages(t *testing.T) {
	for n := range ifInfoLen {
		if _, err := parseLink(make([]byte, n)); err == nil {
			t.Errorf("parseLink of %d bytes: no error", n)
		}
	}
	for n := range ifAddrLen {
		if _, _, err := parsePrefix(make([]byte, n)); err == nil {
			t.Errorf("parsePrefix of %d bytes: no error", n)
		}
	}
}

// namespace moves this test to a network namespace of its own.
func namespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, err)
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	name := "fl-links-" + hex.EncodeToString(b)
	ns, err := netns.NewNamed(name)
	must(t, err)
	t.Cleanup(func() {
		must(t, netns.Set(home))
		ns.Close()
		home.Close()
		must(t, netns.DeleteNamed(name))
		runtime.UnlockOSThread()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addAddr(t *testing.T, l netlink.Link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	a.Flags |= 2 // IFA_F_NODAD: usable at once
	must(t, netlink.AddrAdd(l, a))
}

func TestSnapshot(t *testing.T) {
	namespace(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	attrs := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	br := &netlink.Bridge{LinkAttrs: attrs("br0")}
	must(t, netlink.LinkAdd(br))
	veth := attrs("eth0")
	veth.HardwareAddr = mac
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: veth, PeerName: "port0", PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}))
	port, err := netlink.LinkByName("port0")
	must(t, err)
	must(t, netlink.LinkSetMaster(port, br))
	eth, err := netlink.LinkByName("eth0")
	must(t, err)
	addAddr(t, eth, "192.0.2.1/24")
	addAddr(t, eth, "2001:db8::1/64")
	for _, l := range []netlink.Link{eth, port} {
		must(t, netlink.LinkSetUp(l))
	}

	got, err := Snapshot()
	must(t, err)
	byName := map[string]Link{}
	for _, l := range got {
		// Link-local addresses come when duplicate address detection is done, a second after the link.
		l.Prefixes = slices.DeleteFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
		byName[l.Name] = l
	}
	want := map[string]Link{
		"lo": {Name: "lo", Kind: "device", MTU: 65536, Loopback: true},
		"eth0": {Name: "eth0", Kind: "veth", MTU: 1500, MAC: mac, Up: true, LowerUp: true, Prefixes: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"),
		}},
		"port0": {Name: "port0", Kind: "veth", MTU: 1500, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Up: true, LowerUp: true,
			Master: byName["br0"].Index, Port: true},
		"br0": {Name: "br0", Kind: "bridge", MTU: 1500, MAC: byName["br0"].MAC},
	}
	opts := cmp.Options{cmpopts.IgnoreFields(Link{}, "Index", "Carriers", "Running"), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, byName, opts); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCarriersShowAFlapBetweenSnapshots(t *testing.T) {
	namespace(t)
	a := netlink.NewLinkAttrs()
	a.Name = "eth0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "far0"}))
	eth, err := netlink.LinkByName("eth0")
	must(t, err)
	far, err := netlink.LinkByName("far0")
	must(t, err)
	must(t, netlink.LinkSetUp(eth))
	must(t, netlink.LinkSetUp(far))
	before := snapshotOf(t, "eth0")
	must(t, netlink.LinkSetDown(far))
	must(t, netlink.LinkSetUp(far))
	after := snapshotOf(t, "eth0")
	if !after.LowerUp || after.Carriers <= before.Carriers {
		t.Errorf("want carrier up and counted, have %d before, after: %+v", before.Carriers, after)
	}
}

func snapshotOf(t *testing.T, name string) Link {
	t.Helper()
	all, err := Snapshot()
	must(t, err)
	for _, l := range all {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no link %s", name)
	return Link{}
}

func TestWatchRings(t *testing.T) {
	namespace(t)
	bell := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	ended := make(chan error, 1)
	entered := make(chan error, 1)
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := netns.Set(here)
		entered <- err
		if err == nil {
			ended <- Watch(ctx, log, bell)
		}
	}()
	must(t, <-entered)
	heard(t, bell, "the start")

	a := netlink.NewLinkAttrs()
	a.Name = "br0"
	br := &netlink.Bridge{LinkAttrs: a}
	changes := map[string]func() error{
		"1 add":     func() error { return netlink.LinkAdd(br) },
		"2 up":      func() error { return netlink.LinkSetUp(br) },
		"3 mac":     func() error { return netlink.LinkSetHardwareAddr(br, net.HardwareAddr{2, 0, 0, 0, 0, 9}) },
		"4 address": func() error { addAddr(t, br, "192.0.2.1/24"); return nil },
		"5 second":  func() error { addAddr(t, br, "2001:db8::1/64"); return nil },
		"6 delete":  func() error { return netlink.LinkDel(br) },
	}
	for _, name := range []string{"1 add", "2 up", "3 mac", "4 address", "5 second", "6 delete"} {
		quiet(t, bell)
		must(t, changes[name]())
		heard(t, bell, name)
	}
	cancel()
	must(t, <-ended)
}

// quiet waits until nothing has rung for a moment, so that the next ring is the next change's.
func quiet(t *testing.T, bell <-chan struct{}) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-bell:
		case <-time.After(50 * time.Millisecond):
			return
		case <-deadline:
			t.Fatal("the bell never rests")
		}
	}
}

func heard(t *testing.T, bell <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-bell:
	case <-time.After(5 * time.Second):
		t.Fatalf("no bell after %s", what)
	}
}
