package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

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
	conns  []*ndp.Conn // a socket has room for some hundred memberships; none before the link is ready
	cards  map[netip.Addr]struct{}
	joined map[netip.Addr]*ndp.Conn
}

func newGroups(e *ear) *groups {
	return &groups{ear: e, cards: map[netip.Addr]struct{}{}, joined: map[netip.Addr]*ndp.Conn{}}
}

// join makes the groups of addrs the ones that are joined. An error leaves the rest done,
// and what failed for the next time.
func (g *groups) join(addrs []netip.Addr) error {
	want := map[netip.Addr]bool{}
	for _, a := range addrs {
		group, err := ndp.SolicitedNodeMulticast(a)
		if err != nil {
			return fmt.Errorf("find solicited-node group of %s: %w", a, err)
		}
		want[group] = true
	}
	err := reconcile(want, g.cards, func(group netip.Addr) (struct{}, error) {
		return struct{}{}, g.ear.membership(groupMAC(group), true)
	}, func(group netip.Addr, _ struct{}) error {
		return g.ear.membership(groupMAC(group), false)
	})
	if !g.ready() {
		return err
	}
	return errors.Join(err, reconcile(want, g.joined, g.joinGroup, g.leaveGroup))
}

// reconcile joins what have lacks and leaves what it has too many.
func reconcile[V any](want map[netip.Addr]bool, have map[netip.Addr]V, join func(netip.Addr) (V, error), leave func(netip.Addr, V) error) error {
	var errs []error
	for group, v := range have {
		if !want[group] {
			errs = append(errs, leave(group, v))
			delete(have, group)
		}
	}
	for group := range want {
		if _, ok := have[group]; ok {
			continue
		}
		v, err := join(group)
		if errs = append(errs, err); err == nil {
			have[group] = v
		}
	}
	return errors.Join(errs...)
}

// ready says whether the link has a link-local address that can be used.
func (g *groups) ready() bool {
	return slices.ContainsFunc(g.link.Prefixes, func(p netip.Prefix) bool {
		return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	})
}

// open opens one more ICMPv6 socket to hold memberships.
func (g *groups) open() (*ndp.Conn, error) {
	// The name becomes the zone of the address that is bound to. Package net remembers the
	// index of a zone's name for a minute, wrongly if the link was made anew; a number it
	// takes as it is.
	ifi := &net.Interface{Index: g.link.Index, Name: strconv.Itoa(g.link.Index), MTU: g.link.MTU, HardwareAddr: g.link.MAC}
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("open ICMPv6 on %s: %w", g.link.Name, err)
	}
	// Nobody reads here; the packet socket hears what these memberships bring in.
	var none ipv6.ICMPFilter
	none.SetAll(true)
	if err := conn.SetICMPFilter(&none); err != nil {
		conn.Close()
		return nil, fmt.Errorf("open ICMPv6 on %s: %w", g.link.Name, err)
	}
	g.conns = append(g.conns, conn)
	return conn, nil
}

// joinGroup joins at the newest socket, or at another if that has no room.
func (g *groups) joinGroup(group netip.Addr) (*ndp.Conn, error) {
	if len(g.conns) > 0 {
		conn := g.conns[len(g.conns)-1]
		err := conn.JoinGroup(group)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return nil, fmt.Errorf("join %s on %s: %w", group, g.link.Name, err)
		}
	}
	conn, err := g.open()
	if err != nil {
		return nil, err
	}
	if err := conn.JoinGroup(group); err != nil {
		return nil, fmt.Errorf("join %s on %s: %w", group, g.link.Name, err)
	}
	return conn, nil
}

func (g *groups) leaveGroup(group netip.Addr, conn *ndp.Conn) error {
	// The kernel may have left by itself, when the link lost IPv6.
	if err := conn.LeaveGroup(group); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
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
	for _, conn := range g.conns {
		conn.Close()
	}
	g.conns = nil
	clear(g.joined)
}
