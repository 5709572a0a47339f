package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/links"
)

// groups are the solicited-node multicast groups of one link. A group is joined twice:
// at the link, which makes the network card pass it on and works at once, and in IPv6,
// which tells snooping switches (MLD) and needs a link-local address, so that it may have
// to wait until the link has one.
type groups struct {
	ear    *ear
	link   links.Link
	conn   *ndp.Conn // nil until the link has a link-local address
	cards  map[netip.Addr]bool
	joined map[netip.Addr]bool
}

// join makes the groups of addrs the ones that are joined. An error leaves the rest done.
func (g *groups) join(addrs []netip.Addr) error {
	want := map[netip.Addr]bool{}
	for _, a := range addrs {
		group, err := ndp.SolicitedNodeMulticast(a)
		if err != nil {
			return fmt.Errorf("find solicited-node group of %s: %w", a, err)
		}
		want[group] = true
	}
	var errs []error
	reconcile(want, g.cards, func(group netip.Addr, in bool) {
		errs = append(errs, g.ear.membership(groupMAC(group), in))
	})
	if err := g.open(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if g.conn != nil {
		reconcile(want, g.joined, func(group netip.Addr, in bool) {
			errs = append(errs, g.membership(group, in))
		})
	}
	return errors.Join(errs...)
}

// reconcile calls change for every group that have lacks or has too many, and notes it.
func reconcile(want, have map[netip.Addr]bool, change func(group netip.Addr, in bool)) {
	all := map[netip.Addr]bool{}
	for _, m := range []map[netip.Addr]bool{want, have} {
		for group := range m {
			all[group] = true
		}
	}
	for group := range all {
		switch {
		case want[group] && !have[group]:
			change(group, true)
			have[group] = true
		case !want[group] && have[group]:
			change(group, false)
			delete(have, group)
		}
	}
}

// open opens the ICMPv6 socket that holds the memberships, if the link has a link-local
// address that is ready for use.
func (g *groups) open() error {
	ready := slices.ContainsFunc(g.link.Prefixes, func(p netip.Prefix) bool {
		return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	})
	if g.conn != nil || !ready {
		return nil
	}
	ifi := &net.Interface{Index: g.link.Index, Name: g.link.Name, MTU: g.link.MTU, HardwareAddr: g.link.MAC}
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return fmt.Errorf("open ICMPv6 on %s: %w", g.link.Name, err)
	}
	// Nobody reads here; the packet socket hears what these memberships bring in.
	var none ipv6.ICMPFilter
	none.SetAll(true)
	if err := conn.SetICMPFilter(&none); err != nil {
		conn.Close()
		return fmt.Errorf("open ICMPv6 on %s: %w", g.link.Name, err)
	}
	g.conn = conn
	return nil
}

func (g *groups) membership(group netip.Addr, in bool) error {
	if in {
		if err := g.conn.JoinGroup(group); err != nil && !errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("join %s on %s: %w", group, g.link.Name, err)
		}
		return nil
	}
	if err := g.conn.LeaveGroup(group); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("leave %s on %s: %w", group, g.link.Name, err)
	}
	return nil
}

// membership adds or drops a multicast address at the card, for as long as the socket is open.
func (e *ear) membership(group mac, in bool) error {
	option := unix.PACKET_DROP_MEMBERSHIP
	if in {
		option = unix.PACKET_ADD_MEMBERSHIP
	}
	mreq := unix.PacketMreq{Ifindex: int32(e.link.Index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(group))}
	copy(mreq.Address[:], group[:])
	var set error
	err := e.raw.Control(func(fd uintptr) {
		set = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, option, &mreq)
	})
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("receive %s on %s: %w", group.hardware(), e.link.Name, err)
	}
	return nil
}

// forget drops the memberships in IPv6, so that the next join makes them anew: a link
// that was down may have lost them.
func (g *groups) forget() {
	if g.conn != nil {
		g.conn.Close()
	}
	g.conn, g.joined = nil, map[netip.Addr]bool{}
}
