package l2

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// scene is a LAN with a client and two nodes that could answer for vip.
type scene struct {
	*testing.T
	lan            *lan
	client         *host
	first, second  *station
	vip, otherAddr netip.Addr
}

// TestRules holds each rule of the wire against real kernels, for both families.
func TestRules(t *testing.T) {
	rules := []struct {
		name string
		rule func(scene)
	}{
		{"a client finds the address", aClientFindsTheAddress},
		{"a unicast probe is answered", aUnicastProbeIsAnswered},
		{"taking over replaces a fresh entry", takingOverReplacesAFreshEntry},
		{"a withdrawn address is not answered", aWithdrawnAddressIsNotAnswered},
		{"other addresses are not answered", otherAddressesAreNotAnswered},
		{"a new MAC is told at once", aNewMACIsToldAtOnce},
		{"a link that comes back announces again", aLinkThatComesBackAnnouncesAgain},
		{"a flap between two snapshots announces again", aFlapAnnouncesAgain},
		{"a link made anew is served", aLinkMadeAnewIsServed},
		{"a link that comes later is served", aLinkThatComesLaterIsServed},
		{"a bridge port is skipped, its bridge serves", aBridgePortIsSkipped},
		{"a macvlan serves", aMacvlanServes},
		{"a probe finds the owner", aProbeFindsTheOwner},
		{"a probe finds a foreign host", aProbeFindsAForeignHost},
		{"a probe of a free address finds nothing", aProbeOfAFreeAddressFindsNothing},
		{"a foreign announcement is reported", aForeignAnnouncementIsReported},
		{"a handover ends when the successor speaks", aHandoverEndsWhenTheSuccessorSpeaks},
		{"a handover ends in time", aHandoverEndsInTime},
		{"a handover called off announces again", aHandoverCalledOffAnnouncesAgain},
		{"a new round announces again", aNewRoundAnnouncesAgain},
		{"applying again changes nothing", applyingAgainChangesNothing},
	}
	families := map[string][2]netip.Addr{
		"IPv4": {netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("192.0.2.201")},
		"IPv6": {netip.MustParseAddr("2001:db8::200"), netip.MustParseAddr("2001:db8::201")},
	}
	for family, addrs := range families {
		for _, r := range rules {
			t.Run(family+"/"+r.name, func(t *testing.T) {
				l := newLAN(t)
				r.rule(scene{
					T: t, lan: l, client: l.host("client", 1),
					first: l.host("first", 11).responder(), second: l.host("second", 12).responder(),
					vip: addrs[0], otherAddr: addrs[1],
				})
			})
		}
	}
}

func aClientFindsTheAddress(s scene) {
	s.first.r.Timing.Series = nil // an announcement would spare the client its question
	got := s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	want := []State{{Address: s.vip, Link: "eth0", MAC: s.first.mac()}}
	opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(State{}, "Since", "Counters")}
	if diff := cmp.Diff(want, got.States, opts); diff != "" {
		s.Errorf("(-want +got)\n%s", diff)
	}
	if st := s.first.state(); st.Counters.Answered == 0 || st.Since.IsZero() {
		s.Errorf("want answers counted since some time, have %+v", st)
	}
}

func aUnicastProbeIsAnswered(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	s.client.do(func() {
		for _, family := range []string{"ipv4", "ipv6"} {
			s.client.sysctl(family+"/neigh/eth0/mcast_solicit", "0")
			s.client.sysctl(family+"/neigh/eth0/mcast_resolicit", "0")
		}
	})
	before := s.first.state().Counters.Answered
	s.client.setNeighbour(s.vip, s.first.mac(), unix.NUD_PROBE)
	s.client.await("a confirmed neighbour", func() bool {
		state, _ := s.client.neighbour(s.vip)
		return state == unix.NUD_REACHABLE
	})
	if after := s.first.state().Counters.Answered; after == before {
		s.Errorf("want an answer counted, have %d before and after", before)
	}
}

func takingOverReplacesAFreshEntry(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	s.first.apply()
	start := time.Now()
	s.second.apply(s.vip)
	s.client.has(s.vip, s.second.mac())
	s.Logf("the client knew after %s", time.Since(start))
	if st := s.second.state(); st.Counters.Received > 0 {
		s.Errorf("the client asked %d times; the announcement should have been enough", st.Counters.Received)
	}
}

func aWithdrawnAddressIsNotAnswered(s scene) {
	s.first.apply(s.vip, s.otherAddr)
	s.client.resolves(s.vip, s.first.mac())
	s.first.apply(s.otherAddr)
	s.client.fails(s.vip)
	s.client.resolves(s.otherAddr, s.first.mac())
	s.first.apply()
	s.client.fails(s.otherAddr)
}

func otherAddressesAreNotAnswered(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	s.client.fails(s.otherAddr)
}

func aNewMACIsToldAtOnce(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	changed := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	must(s.T, s.first.nl.LinkSetHardwareAddr(s.first.link("eth0"), changed))
	s.first.apply(s.vip)
	s.client.has(s.vip, changed)
	s.client.resolves(s.vip, changed)
}

func aLinkThatComesBackAnnouncesAgain(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	must(s.T, s.first.nl.LinkSetDown(s.first.link("eth0")))
	s.first.apply(s.vip)
	if have := s.first.state(); have.Problem != "eth0 is set down" || have.MAC != nil {
		s.Errorf("want a problem and no MAC, have %+v", have)
	}
	must(s.T, s.first.nl.LinkSetUp(s.first.link("eth0")))
	s.first.await("the link", func() bool { return s.first.snapshotLink("eth0").Usable() })
	wrong := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	s.client.setNeighbour(s.vip, wrong, unix.NUD_REACHABLE)
	s.first.apply(s.vip)
	s.client.has(s.vip, s.first.mac())
	s.client.resolves(s.vip, s.first.mac())
}

func aFlapAnnouncesAgain(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	s.first.announced(len(s.first.r.Timing.Series))
	wrong := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	s.client.setNeighbour(s.vip, wrong, unix.NUD_REACHABLE)
	port := s.lan.hub.link("port11")
	must(s.T, s.lan.hub.nl.LinkSetDown(port))
	must(s.T, s.lan.hub.nl.LinkSetUp(port))
	s.first.await("the link", func() bool { return s.first.snapshotLink("eth0").Usable() })
	s.first.apply(s.vip)
	s.client.has(s.vip, s.first.mac())
}

// announced waits until n announcements were sent, which are two frames each in ARP.
func (s *station) announced(n int) {
	s.t.Helper()
	s.await("announcements", func() bool {
		st := s.state()
		frames := uint64(n)
		if st.Address.Is4() {
			frames *= 2
		}
		return st.Counters.Gratuitous >= frames
	})
}

func aLinkMadeAnewIsServed(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	must(s.T, s.first.nl.LinkDel(s.first.link("eth0")))
	s.first.apply(s.vip)
	if have := s.first.state(); have.Problem != "there is no link eth0" {
		s.Errorf("want it missed, have %+v", have)
	}
	s.lan.plug(s.first.host)
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	s.second.apply() // which has nothing to do with it
}

func aLinkThatComesLaterIsServed(s scene) {
	late := s.lan.namespace("late")
	late.n = 13
	st := late.responder()
	if got := st.apply(s.vip); got.States[0].Problem != "there is no link eth0" {
		s.Errorf("want it missed, have %+v", got.States)
	}
	s.lan.plug(late)
	st.apply(s.vip)
	s.client.resolves(s.vip, late.mac())
}

func aBridgePortIsSkipped(s scene) {
	a := netlink.NewLinkAttrs()
	a.Name = "br1"
	a.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 1, 1}
	must(s.T, s.first.nl.LinkAdd(&netlink.Bridge{LinkAttrs: a}))
	must(s.T, s.first.nl.LinkSetUp(s.first.link("br1")))
	must(s.T, s.first.nl.LinkSetMaster(s.first.link("eth0"), s.first.link("br1")))
	s.first.await("the bridge", func() bool { return s.first.snapshotLink("br1").Usable() })
	got := s.first.applyAll([]Announcement{{Address: s.vip, Links: []string{"eth0", "br1"}}})
	want := map[string]string{"eth0": "eth0 is a port of a bridge or bond", "br1": ""}
	have := map[string]string{}
	for _, st := range got.States {
		have[st.Link] = st.Problem
	}
	if diff := cmp.Diff(want, have); diff != "" {
		s.Errorf("(-want +got)\n%s", diff)
	}
	s.client.resolves(s.vip, a.HardwareAddr)
}

func aMacvlanServes(s scene) {
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = "mac0", s.first.link("eth0").Attrs().Index
	a.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 2, 1}
	must(s.T, s.first.nl.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	must(s.T, s.first.nl.LinkSetUp(s.first.link("mac0")))
	s.first.await("the macvlan", func() bool { return s.first.snapshotLink("mac0").Usable() })
	s.first.applyAll([]Announcement{{Address: s.vip, Links: []string{"mac0"}}})
	s.client.resolves(s.vip, a.HardwareAddr)
}

func aProbeFindsTheOwner(s scene) {
	s.first.apply(s.vip)
	start := time.Now()
	got := s.second.probe(s.vip, 5*time.Second)
	s.Logf("seen after %s", time.Since(start))
	s.expectSighting(got, s.first.mac())
	if time.Since(start) > 4*time.Second {
		s.Errorf("the probe waited although the owner had answered")
	}
}

func (s scene) expectSighting(got []Sighting, mac net.HardwareAddr) {
	s.Helper()
	want := []Sighting{{Address: s.vip, Link: "eth0", MAC: mac}}
	opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(Sighting{}, "At")}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		s.Errorf("(-want +got)\n%s", diff)
	}
}

func (s scene) cidr() string { return netip.PrefixFrom(s.vip, s.vip.BitLen()).String() }

func aProbeFindsAForeignHost(s scene) {
	s.client.addr("eth0", s.cidr())
	s.expectSighting(s.first.probe(s.vip, 5*time.Second), s.client.mac())
}

func aProbeOfAFreeAddressFindsNothing(s scene) {
	start := time.Now()
	if got := s.first.probe(s.vip, 90*time.Millisecond); len(got) > 0 {
		s.Errorf("want nothing, have %+v", got)
	}
	if took := time.Since(start); took < 90*time.Millisecond {
		s.Errorf("gave up after %s", took)
	}
}

func aForeignAnnouncementIsReported(s scene) {
	s.first.apply(s.vip)
	s.second.apply(s.vip) // any other host that announces the same
	s.first.rings("a conflict")
	s.first.await("a sighting", func() bool { return s.first.state().Foreign.MAC != nil })
	s.expectSighting([]Sighting{s.first.state().Foreign}, s.second.mac())
	if st := s.first.state(); st.MAC == nil || st.Handed {
		s.Errorf("what to do about it is the caller's business, but have %+v", st)
	}
}

func aHandoverEndsWhenTheSuccessorSpeaks(s scene) {
	s.first.apply(s.vip)
	s.client.resolves(s.vip, s.first.mac())
	handover := []Announcement{{Address: s.vip, Links: []string{"eth0"}, Until: time.Now().Add(time.Hour)}}
	s.first.applyAll(handover)
	sent := s.first.state().Counters.Gratuitous
	s.client.resolves(s.vip, s.first.mac()) // still there
	s.second.apply(s.vip)
	s.first.rings("the end of the handover")
	s.client.has(s.vip, s.second.mac())
	s.client.resolves(s.vip, s.second.mac())
	s.second.announced(len(s.second.r.Timing.Series))
	st := s.first.state()
	if !st.Handed || st.MAC != nil || st.Counters.Gratuitous != sent {
		s.Errorf("want it handed over in silence, have %+v", st)
	}
	s.second.apply()
	s.client.fails(s.vip)
}

func aHandoverEndsInTime(s scene) {
	s.first.applyAll([]Announcement{{Address: s.vip, Links: []string{"eth0"}, Until: time.Now().Add(300 * time.Millisecond)}})
	s.client.resolves(s.vip, s.first.mac())
	s.first.rings("the end of the handover")
	if !s.first.state().Handed {
		s.Errorf("want it over, have %+v", s.first.state())
	}
	s.client.fails(s.vip)
}

func aHandoverCalledOffAnnouncesAgain(s scene) {
	s.first.apply(s.vip)
	s.first.announced(len(s.first.r.Timing.Series))
	s.first.applyAll([]Announcement{{Address: s.vip, Links: []string{"eth0"}, Until: time.Now().Add(time.Hour)}})
	s.second.apply(s.vip)
	s.first.rings("the end of the handover")
	s.second.announced(len(s.second.r.Timing.Series))
	s.client.resolves(s.vip, s.second.mac())
	s.second.apply()
	s.first.apply(s.vip)
	s.client.has(s.vip, s.first.mac())
	s.client.resolves(s.vip, s.first.mac())
}

func aNewRoundAnnouncesAgain(s scene) {
	s.first.apply(s.vip)
	s.first.announced(len(s.first.r.Timing.Series))
	s.client.resolves(s.vip, s.first.mac())
	s.client.setNeighbour(s.vip, net.HardwareAddr{2, 0, 0, 0, 0, 0x77}, unix.NUD_REACHABLE)
	s.first.applyAll([]Announcement{{Address: s.vip, Links: []string{"eth0"}, Round: 1}})
	s.client.has(s.vip, s.first.mac())
}

func applyingAgainChangesNothing(s scene) {
	s.first.apply(s.vip)
	s.first.announced(len(s.first.r.Timing.Series))
	want := s.first.apply(s.vip)
	for range 5 {
		got := s.first.apply(s.vip)
		opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, time.Time{}), cmpopts.EquateEmpty(),
			cmpopts.IgnoreFields(LinkCounters{}, "Ignored")}
		if diff := cmp.Diff(want, got, opts); diff != "" {
			s.Errorf("(-want +got)\n%s", diff)
		}
	}
}
