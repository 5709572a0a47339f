package l2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tap sends and hears raw frames of one protocol on a host's eth0.
type tap struct {
	*host
	conn  *packet.Conn
	proto protocol
}

func (h *host) tap(p protocol) *tap {
	h.t.Helper()
	var conn *packet.Conn
	var err error
	h.do(func() {
		index := h.link("eth0").Attrs().Index
		conn, err = packet.Listen(&net.Interface{Index: index, Name: "eth0"}, packet.Raw, p.etherType(), nil)
	})
	must(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	must(h.t, err)
	must(h.t, setReceiveBuffer(raw)) // it hears the floods, too
	return &tap{h, conn, p}
}

func (t *tap) send(frame []byte) {
	t.t.Helper()
	_, err := t.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	must(t.t, err)
}

// question is how the host's kernel would ask who has addr.
func (t *tap) question(addr netip.Addr) []byte {
	t.t.Helper()
	var frame []byte
	var err error
	own := mac(t.mac())
	if addr.Is4() {
		frame, err = arpProtocol{}.frame(1, broadcast, own, netip.AddrFrom4([4]byte{192, 0, 2, t.n}), mac{}, addr)
	} else {
		var group netip.Addr
		group, err = ndp.SolicitedNodeMulticast(addr)
		must(t.t, err)
		frame, err = ndpProtocol{}.frame(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", t.n)), group, own, groupMAC(group),
			&ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{
				&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: t.mac()},
			}})
	}
	must(t.t, err)
	return frame
}

// flood sends a number of frames in every interval until stop is closed, and counts them. An interval in which the
// machine had other work is left out, or, if even, made up for.
func (t *tap) flood(frame []byte, number int, interval time.Duration, even bool, stop <-chan struct{}) (sent int) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	begin := time.Now()
	for intervals := 1; ; intervals++ {
		for range number {
			if _, err := t.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err == nil {
				sent++
			}
		}
		select {
		case <-stop:
			return sent
		default:
		}
		if !even || time.Since(begin) <= time.Duration(intervals)*interval {
			<-tick.C
		}
	}
}

// next is the next frame that claims addr, within the time.
func (t *tap) next(addr netip.Addr, within time.Duration) (frame []byte, ok bool) {
	t.t.Helper()
	must(t.t, t.conn.SetReadDeadline(time.Now().Add(within)))
	buf := make([]byte, 2000)
	for {
		n, _, err := t.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, false
		}
		must(t.t, err)
		if h, err := t.proto.parse(buf[:n]); err == nil && h.claims == addr {
			return slices.Clone(buf[:n]), true
		}
	}
}

// said is a frame in the terms of its protocol, for people and for comparison.
type said struct {
	To, From                    string
	Kind                        string
	Sender, Target              string
	Router, Solicited, Override bool
	Option                      string
}

func read(t *testing.T, frame []byte) said {
	t.Helper()
	to, from, p := etherHeader(frame)
	out := said{To: to.hardware().String(), From: from.hardware().String()}
	if binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_ARP {
		out.Kind = map[byte]string{1: "request", 2: "reply"}[p[7]]
		out.Sender = net.HardwareAddr(p[8:14]).String() + " " + netip.AddrFrom4([4]byte(p[14:18])).String()
		out.Target = net.HardwareAddr(p[18:24]).String() + " " + netip.AddrFrom4([4]byte(p[24:28])).String()
		return out
	}
	header, body, err := splitIPv6(p)
	must(t, err)
	m, err := ndp.ParseMessage(body)
	must(t, err)
	na, ok := m.(*ndp.NeighborAdvertisement)
	if !ok {
		t.Fatalf("want an advertisement, have %T", m)
	}
	out.Kind = "advertisement of " + na.TargetAddress.String()
	out.Sender = netip.AddrFrom16([16]byte(header[8:24])).String()
	out.Target = netip.AddrFrom16([16]byte(header[24:40])).String()
	out.Router, out.Solicited, out.Override = na.Router, na.Solicited, na.Override
	for _, o := range na.Options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
			out.Option += lla.Addr.String()
		}
	}
	return out
}

var (
	vip4 = netip.MustParseAddr("192.0.2.200")
	vip6 = netip.MustParseAddr("2001:db8::200")
)

// TestAnswers sends what hosts may ask and compares what comes back, to the bit.
func TestAnswers(t *testing.T) {
	l := newLAN(t)
	client, node := l.host("client", 1), l.host("node", 11)
	st := node.responder()
	st.r.Timing.Series = nil
	st.apply(vip4, vip6)
	const clientMAC, nodeMAC, everybody = "02:00:00:00:00:01", "02:00:00:00:00:0b", "33:33:00:00:00:01"
	own, peer6 := mac(client.mac()), netip.MustParseAddr("2001:db8::1")
	group, err := ndp.SolicitedNodeMulticast(vip6)
	must(t, err)
	solicit := func(src, dst netip.Addr, to mac, options ...ndp.Option) []byte {
		b, err := ndpProtocol{}.frame(src, dst, own, to, &ndp.NeighborSolicitation{TargetAddress: vip6, Options: options})
		must(t, err)
		return b
	}
	source := &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: client.mac()}
	advertised := said{To: clientMAC, From: nodeMAC, Kind: "advertisement of 2001:db8::200",
		Sender: "2001:db8::200", Target: "2001:db8::1", Solicited: true, Override: true, Option: nodeMAC}
	defended := said{To: everybody, From: nodeMAC, Kind: "advertisement of 2001:db8::200",
		Sender: "2001:db8::200", Target: "ff02::1", Override: true, Option: nodeMAC}
	probe4, err := arpProtocol{}.probe(vip4, own)
	must(t, err)
	tests := map[string]struct {
		addr  netip.Addr
		frame []byte
		want  said
	}{
		"ARP probe": {vip4, probe4, said{To: clientMAC, From: nodeMAC, Kind: "reply",
			Sender: nodeMAC + " 192.0.2.200", Target: clientMAC + " 0.0.0.0"}},
		"multicast solicitation":                         {vip6, solicit(peer6, group, groupMAC(group), source), advertised},
		"multicast solicitation without a source option": {vip6, solicit(peer6, group, groupMAC(group)), advertised},
		"unicast solicitation":                           {vip6, solicit(peer6, vip6, mac(node.mac()), source), advertised},
		"unicast solicitation without a source option":   {vip6, solicit(peer6, vip6, mac(node.mac())), advertised},
		"duplicate address detection":                    {vip6, solicit(netip.IPv6Unspecified(), group, groupMAC(group)), defended},
	}
	taps := map[bool]*tap{true: client.tap(arpProtocol{}), false: client.tap(ndpProtocol{})}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tap := taps[tt.addr.Is4()]
			tap.send(tt.frame)
			got, ok := tap.next(tt.addr, patience)
			if !ok {
				t.Fatalf("no answer; %+v", st.r.Report())
			}
			if diff := cmp.Diff(tt.want, read(t, got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestUnasked compares what is sent without being asked, and when.
func TestUnasked(t *testing.T) {
	const nodeMAC, all = "02:00:00:00:00:0b", "ff:ff:ff:ff:ff:ff"
	tests := map[string]struct {
		addr netip.Addr
		want []said
	}{
		"ARP": {vip4, []said{
			{To: all, From: nodeMAC, Kind: "request", Sender: nodeMAC + " 192.0.2.200", Target: "00:00:00:00:00:00 192.0.2.200"},
			{To: all, From: nodeMAC, Kind: "reply", Sender: nodeMAC + " 192.0.2.200", Target: nodeMAC + " 192.0.2.200"},
		}},
		"NDP": {vip6, []said{
			{To: "33:33:00:00:00:01", From: nodeMAC, Kind: "advertisement of 2001:db8::200",
				Sender: "2001:db8::200", Target: "ff02::1", Override: true, Option: nodeMAC},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			tap := l.host("client", 1).tap(protocolOf(tt.addr))
			st := l.host("node", 11).responder()
			st.r.Timing.Refresh = 100 * time.Millisecond
			start := time.Now()
			st.apply(tt.addr)
			due := append(slices.Clone(st.r.Timing.Series), 320*time.Millisecond, 420*time.Millisecond)
			for _, after := range due {
				for _, want := range tt.want {
					frame, ok := tap.next(tt.addr, patience)
					if !ok {
						t.Fatal("nothing was sent")
					}
					if diff := cmp.Diff(want, read(t, frame)); diff != "" {
						t.Errorf("(-want +got)\n%s", diff)
					}
					if early := time.Since(start); early < after {
						t.Errorf("sent after %s, due after %s", early, after)
					}
				}
			}
			st.apply()
			if _, ok := tap.next(tt.addr, 0); ok {
				t.Log("one was already on its way") // sent before Apply, read after it
			}
			if frame, ok := tap.next(tt.addr, 300*time.Millisecond); ok {
				t.Errorf("announced after it was withdrawn: %+v", read(t, frame))
			}
		})
	}
}

// TestManyAreAnnouncedInOrderAndPaced announces more than one batch.
func TestManyAreAnnouncedInOrderAndPaced(t *testing.T) {
	l := newLAN(t)
	tap := l.host("client", 1).tap(arpProtocol{})
	st := l.host("node", 11).responder()
	st.r.Timing.Series, st.r.Timing.Batch, st.r.Timing.BatchTime = []time.Duration{0}, 10, 20*time.Millisecond
	var addrs []netip.Addr
	for a := netip.MustParseAddr("192.0.2.100"); len(addrs) < 45; a = a.Next() {
		addrs = append(addrs, a)
	}
	mixed := slices.Clone(addrs)
	slices.Reverse(mixed)
	start := time.Now()
	st.apply(mixed...)
	for _, a := range addrs {
		if _, ok := tap.next(a, patience); !ok {
			t.Fatalf("%s was not announced, or not in order", a)
		}
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("45 addresses took %s, in batches of 10 every 20 ms", took)
	}
}

func TestMalformedFramesAreCounted(t *testing.T) {
	l := newLAN(t)
	client, node := l.host("client", 1), l.host("node", 11)
	st := node.responder()
	st.apply(vip4, vip6)
	own := mac(client.mac())
	whole4, err := arpProtocol{}.probe(vip4, own)
	must(t, err)
	whole6, err := ndpProtocol{}.probe(vip6, own)
	must(t, err)
	with := func(whole []byte, at int, value byte) []byte {
		b := slices.Clone(whole)
		b[at] = value
		return b
	}
	bad := map[string][]byte{
		"ARP cut in its header":          whole4[:24],
		"ARP cut before its target":      whole4[:38],
		"ARP for another hardware":       with(whole4, 15, 6),
		"ARP with long addresses":        with(whole4, 18, 255),
		"ARP with no addresses":          with(whole4, 19, 0),
		"ARP of an unknown kind":         with(whole4, 21, 9),
		"ARP from a multicast station":   with(whole4, 22, 1),
		"NDP cut before its target":      whole6[:70],
		"NDP with a low hop limit":       with(whole6, 21, 64),
		"NDP with a wrong checksum":      with(whole6, 56, whole6[56]+1),
		"NDP longer than its frame":      with(whole6, 19, 200),
		"NDP with an unknown code":       with(whole6, 55, 1),
		"NDP shorter than its own shape": with(whole6, 19, 4),
	}
	taps := map[bool]*tap{true: client.tap(arpProtocol{}), false: client.tap(ndpProtocol{})}
	for _, name := range slices.Sorted(mapKeys(bad)) {
		before := malformed(st.r.Report())
		taps[strings.HasPrefix(name, "ARP")].send(bad[name])
		st.await(name+" to be counted", func() bool { return malformed(st.r.Report()) == before+1 })
	}
	client.resolves(vip4, node.mac())
	client.resolves(vip6, node.mac())
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func malformed(r Report) (n uint64) {
	for _, l := range r.Links {
		n += l.Malformed
	}
	return n
}

// TestKernelLosesDuplicateAddressDetection gives another host the same address: its
// kernel must find it taken.
func TestKernelLosesDuplicateAddressDetection(t *testing.T) {
	l := newLAN(t)
	client, node := l.host("client", 1), l.host("node", 11)
	node.responder().apply(vip6)
	client.do(func() { client.sysctl("ipv6/conf/eth0/accept_dad", "1") })
	a, err := netlink.ParseAddr("2001:db8::200/64")
	must(t, err)
	must(t, client.nl.AddrAdd(client.link("eth0"), a))
	client.await("dadfailed", func() bool {
		all, err := client.nl.AddrList(client.link("eth0"), unix.AF_INET6)
		must(t, err)
		return slices.ContainsFunc(all, func(a netlink.Addr) bool {
			return a.IP.Equal(vip6.AsSlice()) && a.Flags&unix.IFA_F_DADFAILED != 0
		})
	})
}

// TestGroupsAreJoined reads the kernel's memberships, also on a link that comes later and
// on one that returns.
func TestGroupsAreJoined(t *testing.T) {
	l := newLAN(t)
	node := l.host("node", 11)
	st := node.responder()
	joined := func() (cards, ipv6 bool) {
		node.do(func() {
			dev, _ := os.ReadFile("/proc/thread-self/net/dev_mcast")
			igmp, _ := os.ReadFile("/proc/thread-self/net/igmp6")
			cards = strings.Contains(string(dev), "3333ff000200")
			ipv6 = strings.Contains(string(igmp), "ff0200000000000000000001ff000200")
		})
		return cards, ipv6
	}
	expect := func(when string, want bool) {
		t.Helper()
		node.await(when, func() bool {
			if want {
				st.apply(vip6) // the loop does so when the link-local address appears
			}
			cards, ipv6 := joined()
			return cards == want && ipv6 == want
		})
	}
	expect("memberships", true)
	must(t, node.nl.LinkDel(node.link("eth0")))
	l.plug(node)
	expect("memberships on the new link", true)
	must(t, node.nl.LinkSetDown(node.link("eth0")))
	must(t, node.nl.LinkSetUp(node.link("eth0")))
	expect("memberships after the link was down", true)
	st.apply(netip.MustParseAddr("2001:db8::201"))
	expect("no memberships", false)
}

func TestForgottenDutiesOfAGoneLink(t *testing.T) {
	l := newLAN(t)
	node := l.host("node", 11)
	st := node.responder()
	ls := node.snapshot() // and then the link goes, before Apply sees it
	must(t, node.nl.LinkDel(node.link("eth0")))
	var got Report
	var err error
	node.do(func() {
		got, err = st.r.Apply(t.Context(), []Announcement{
			{Address: vip4, Links: []string{"eth0"}}, {Address: vip6, Links: []string{"eth0"}},
		}, ls)
	})
	must(t, err)
	for _, s := range got.States {
		if !strings.Contains(s.Problem, "listen on eth0") || s.MAC != nil {
			t.Errorf("want a problem, have %+v", s)
		}
	}
	if diff := cmp.Diff(2, len(got.States), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
