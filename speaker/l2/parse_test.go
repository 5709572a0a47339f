package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

var (
	macA     = mac{2, 0, 0, 0, 0, 0xa}
	macB     = mac{2, 0, 0, 0, 0, 0xb}
	peer4    = netip.MustParseAddr("192.0.2.1")
	peer6    = netip.MustParseAddr("2001:db8::1")
	compared = cmp.Options{cmp.AllowUnexported(heard{}), cmpopts.EquateComparable(netip.Addr{})}
)

func TestParse(t *testing.T) {
	frame := func(b []byte, err error) []byte {
		must(t, err)
		return b
	}
	group, err := ndp.SolicitedNodeMulticast(vip6)
	must(t, err)
	announced4, err := arpProtocol{}.announce(vip4, macB)
	must(t, err)
	announced6, err := ndpProtocol{}.announce(vip6, macB)
	must(t, err)
	asked4 := heard{to: macB, from: macA, peer: peer4, asks: vip4}
	asked6 := heard{to: groupMAC(group), from: macA, peer: peer6, asks: vip6}
	source := &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: macA.hardware()}
	solicit := &ndp.NeighborSolicitation{TargetAddress: vip6, Options: []ndp.Option{source}}
	tests := map[string]struct {
		proto protocol
		frame []byte
		want  heard
	}{
		"ARP request": {arpProtocol{}, frame(arpProtocol{}.frame(1, broadcast, macA, peer4, mac{}, vip4)),
			heard{to: broadcast, from: macA, peer: peer4, asks: vip4, claims: peer4}},
		"ARP answer": {arpProtocol{}, frame(arpProtocol{}.answer(asked4, macB)),
			heard{to: macA, from: macB, peer: vip4, claims: vip4}},
		"ARP probe": {arpProtocol{}, frame(arpProtocol{}.probe(vip4, macA)),
			heard{to: broadcast, from: macA, peer: netip.IPv4Unspecified(), asks: vip4}},
		"gratuitous ARP request": {arpProtocol{}, announced4[0], heard{to: broadcast, from: macB, peer: vip4, claims: vip4}},
		"gratuitous ARP reply":   {arpProtocol{}, announced4[1], heard{to: broadcast, from: macB, peer: vip4, claims: vip4}},
		"solicitation": {ndpProtocol{}, frame(ndpProtocol{}.frame(peer6, group, macB, groupMAC(group), solicit)),
			heard{to: groupMAC(group), from: macA, peer: peer6, asks: vip6}},
		"solicited advertisement": {ndpProtocol{}, frame(ndpProtocol{}.answer(asked6, macB)),
			heard{to: macA, from: macB, peer: vip6, claims: vip6}},
		"duplicate address detection": {ndpProtocol{}, frame(ndpProtocol{}.probe(vip6, macA)),
			heard{to: groupMAC(group), from: macA, peer: netip.IPv6Unspecified(), asks: vip6}},
		"unsolicited advertisement": {ndpProtocol{}, announced6[0], heard{to: allNodes, from: macB, peer: vip6, claims: vip6}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, padding := range []int{0, 18} { // Ethernet fills up short frames
				got, err := tt.proto.parse(append(slices.Clone(tt.frame), make([]byte, padding)...))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, compared); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
			for n := range tt.frame {
				if _, err := tt.proto.parse(tt.frame[:n]); err == nil {
					t.Errorf("want an error for %d bytes of %d", n, len(tt.frame))
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	source := func(m mac) ndp.Option { return &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: m.hardware()} }
	group, err := ndp.SolicitedNodeMulticast(vip6)
	must(t, err)
	solicit := func(src, dst, target netip.Addr, options ...ndp.Option) []byte {
		b, err := ndpProtocol{}.frame(src, dst, macA, groupMAC(group), &ndp.NeighborSolicitation{TargetAddress: target, Options: options})
		must(t, err)
		return b
	}
	patched := func(b []byte, at int, values ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], values)
		return b
	}
	request, err := arpProtocol{}.frame(1, broadcast, macA, peer4, mac{}, vip4)
	must(t, err)
	advertised, err := ndpProtocol{}.announce(vip6, macA)
	must(t, err)
	tests := map[string]struct {
		proto protocol
		frame []byte
	}{
		"ARP: no station as sender":            {arpProtocol{}, patched(request, 22, 0, 0, 0, 0, 0, 0)},
		"ARP: broadcast as sender":             {arpProtocol{}, patched(request, 22, 255, 255, 255, 255, 255, 255)},
		"ARP: frame from multicast":            {arpProtocol{}, patched(request, 6, 1)},
		"ARP: other hardware":                  {arpProtocol{}, patched(request, 15, 6)},
		"ARP: other protocol":                  {arpProtocol{}, patched(request, 16, 0x86, 0xdd)},
		"ARP: long hardware addresses":         {arpProtocol{}, patched(request, 18, 255)},
		"ARP: no protocol addresses":           {arpProtocol{}, patched(request, 19, 0)},
		"ARP: RARP":                            {arpProtocol{}, patched(request, 21, 3)},
		"NDP: a source option that is nobody":  {ndpProtocol{}, solicit(peer6, group, vip6, source(broadcast))},
		"NDP: from :: with a source option":    {ndpProtocol{}, solicit(netip.IPv6Unspecified(), group, vip6, source(macA))},
		"NDP: from :: to a unicast address":    {ndpProtocol{}, solicit(netip.IPv6Unspecified(), vip6, vip6)},
		"NDP: not IPv6":                        {ndpProtocol{}, patched(advertised[0], 14, 0x40)},
		"NDP: with an extension header":        {ndpProtocol{}, patched(advertised[0], 20, 0)},
		"NDP: forwarded by a router":           {ndpProtocol{}, patched(advertised[0], 21, 254)},
		"NDP: wrong checksum":                  {ndpProtocol{}, patched(advertised[0], 70, 1)},
		"NDP: length beyond the frame":         {ndpProtocol{}, patched(advertised[0], 18, 1)},
		"NDP: an option without length":        {ndpProtocol{}, patched(advertised[0], 79, 0)},
		"NDP: an option longer than the frame": {ndpProtocol{}, patched(advertised[0], 79, 9)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := tt.proto.parse(tt.frame); err == nil {
				t.Errorf("want an error, have %+v", got)
			}
		})
	}
}

func FuzzARP(f *testing.F) { fuzzParser(f, arpProtocol{}, vip4, peer4) }
func FuzzNDP(f *testing.F) { fuzzParser(f, ndpProtocol{}, vip6, peer6) }

// fuzzParser holds that no frame does harm, and that every question gets an answer that
// the same parser understands.
func fuzzParser(f *testing.F, p protocol, vip, peer netip.Addr) {
	add := func(b []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	add(p.probe(vip, macA))
	add(p.answer(heard{to: macB, from: macA, peer: peer, asks: vip}, macB))
	announced, err := p.announce(vip, macA)
	for _, b := range announced {
		add(b, err)
	}
	if vip.Is6() {
		add(ndpProtocol{}.frame(peer, vip, macA, macB, &ndp.NeighborSolicitation{TargetAddress: vip, Options: []ndp.Option{
			&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: macA.hardware()},
		}}))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if vip.Is6() {
			seal(frame)
		}
		h, err := p.parse(frame)
		if err != nil || !h.asks.IsValid() {
			return
		}
		answer, err := p.answer(h, macB)
		if err != nil {
			t.Fatalf("no answer to %+v: %v", h, err)
		}
		got, err := p.parse(answer)
		if err != nil {
			t.Fatalf("the answer to %+v is malformed: %v", h, err)
		}
		if got.claims != h.asks || got.from != macB {
			t.Errorf("asked %+v, answered %+v", h, got)
		}
	})
}

// seal gives a frame the ICMPv6 checksum it should have, which a fuzzer does not guess.
func seal(frame []byte) {
	if len(frame) < etherLen+ipv6Len+ndpLen {
		return
	}
	header, body, err := splitIPv6(frame[etherLen:])
	if err != nil {
		return
	}
	body[2], body[3] = 0, 0
	sum := checksum(netip.AddrFrom16([16]byte(header[8:24])), netip.AddrFrom16([16]byte(header[24:40])), body)
	body[2], body[3] = byte(sum>>8), byte(sum)
}

// TestFilterPassesWhatIsOurs runs the filters on a machine for them: what they pass must
// be what the parser would act on.
func TestFilterPassesWhatIsOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) netip.Addr {
			// Few values, so that addresses are alike in some words and not in others.
			low := rapid.Byte().Draw(t, "low") % 8
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: rapid.Byte().Draw(t, "middle") % 2, 11: rapid.Byte().Draw(t, "high") % 2, 15: low})
		})
		six := rapid.SliceOfNDistinct(draw, 0, 12, rapid.ID).Draw(t, "addresses")
		var four []netip.Addr
		for _, a := range six {
			b := a.As16()
			four = append(four, netip.AddrFrom4([4]byte{10, b[7], b[11], b[15]}))
		}
		asked := draw.Draw(t, "asked")
		b := asked.As16()
		asked4 := netip.AddrFrom4([4]byte{10, b[7], b[11], b[15]})
		expectFilter(t, ndpProtocol{}, six, asked)
		expectFilter(t, arpProtocol{}, four, asked4)
	})
}

func expectFilter(t *rapid.T, p protocol, addrs []netip.Addr, asked netip.Addr) {
	vm, err := bpf.NewVM(p.filter(addrs))
	if err != nil {
		t.Fatal(err)
	}
	probe, err := p.probe(asked, macA)
	if err != nil {
		t.Fatal(err)
	}
	announced, err := p.announce(asked, macA)
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range append(announced, probe) {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if have, want := n > 0, slices.Contains(addrs, asked); have != want {
			t.Fatalf("%T passes %s: %v, want %v with %s", p, asked, have, want, addrs)
		}
	}
}

// TestFilterOfMany is taken by the kernel, whole or as one that passes all.
func TestFilterOfMany(t *testing.T) {
	l := newLAN(t)
	client, node := l.host("client", 1), l.host("node", 11)
	for _, n := range []int{100, 450, 3000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			st := node.responder()
			st.r.Timing.Series = nil
			four, six := []netip.Addr{vip4}, []netip.Addr{vip6}
			for a, b := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("fd00::"); len(four) < n; a, b = a.Next(), b.Next() {
				four, six = append(four, a), append(six, b)
			}
			st.apply(append(four, six...)...)
			client.resolves(vip4, node.mac())
			client.resolves(vip6, node.mac())
			must(t, st.r.Close())
		})
	}
}
