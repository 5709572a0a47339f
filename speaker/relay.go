package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/speaker/l2"
)

// relayTime bounds how long a node that an address has come to passes the connections it
// does not know to the node that had the address before.
const relayTime = time.Hour

// silentTime is for how long that is also done for a node that went silent. On a busy machine
// a node may be taken for dead for a moment, and its connections need not die for that; those of a node
// that is really dead are answered with resets from then on.
const silentTime = 3 * time.Second

// relay is where the connections live on that were opened before an address came here.
type relay struct {
	To    netip.Addr // of the node that had the address
	Since time.Time
}

// relays says what this node passes on from now on, by address, given what it did before
// and which addresses it announced before. It begins when an address comes here from a node
// that may go on forwarding: one that is alive, whose speaker said goodbye, or that fell
// silent just now. It ends when that node stays silent, when it has the address again, when the
// address is gone, or after relayTime.
//
// It also begins when an address goes from here to another node, or that one says that it has it: while both answer, what
// the other one began may come here, and speakers do not hear at the same moment of what moves an address. Then it ends
// handoverTime after the last moment at which this node answered. So no two nodes relay an address to each other for much
// longer than a handover takes.
func relays(have map[netip.Addr]relay, todo []hold, announced map[netip.Addr]bool, heard map[netip.Addr]string, verdicts []Verdict, w World) map[netip.Addr]relay {
	links := map[netip.Addr][]string{}
	for _, h := range todo {
		links[h.Announcement.Address] = h.Announcement.Links
	}
	next := map[netip.Addr]relay{}
	for _, v := range verdicts {
		on, holds := links[v.Address]
		other := ""
		if holds {
			other = w.other(v, announced[v.Address], heard[v.Address])
		}
		to := w.near(other, v.Address.Is4(), on)
		comes, goes := v.Owner == w.Node && !announced[v.Address], v.Owner != w.Node
		old, relayed := have[v.Address]
		relayed = relayed && w.relayed(old, v, holds)
		switch {
		case to.IsValid() && (comes || !relayed || goes && old.To == to):
			next[v.Address] = relay{to, w.Now}
		case relayed:
			next[v.Address] = old
		}
	}
	return next
}

// heardUsing returns the live nodes that were heard on the wire, within handoverTime, using addresses that this one answers
// for: gossip may tell it later.
func (w World) heardUsing(states []l2.State) map[netip.Addr]string {
	heard := map[netip.Addr]string{}
	for _, state := range states {
		if state.Foreign.At.IsZero() || w.Now.Sub(state.Foreign.At) > handoverTime {
			continue
		}
		mac := state.Foreign.MAC.String()
		i := slices.IndexFunc(w.Members, func(m Member) bool { return m.Life == Alive && m.Name != w.Node && m.Meta.hasMAC(mac) })
		if i >= 0 {
			heard[state.Address] = w.Members[i].Name
		}
	}
	return heard
}

// other is the node that may have begun connections of an address that this one answers for, given who was heard using
// it; "" for none.
func (w World) other(v Verdict, announced bool, heard string) string {
	switch {
	case v.Owner != w.Node:
		return v.Owner
	case !announced:
		return v.Present
	case heard != "":
		return heard
	}
	for _, m := range w.Members {
		if m.Name != w.Node && m.Life == Alive && m.Meta.owns(v.Address) {
			return m.Name
		}
	}
	return ""
}

// relayed tells whether a relay goes on.
func (w World) relayed(r relay, v Verdict, holds bool) bool {
	node, known := w.memberAt(r.To)
	ago := w.Now.Sub(r.Since)
	switch {
	case ago > relayTime, known && w.silent(node):
		return false
	case holds, ago < handoverTime: // also while handing it back: what comes here belongs there
		return true
	}
	return !known || v.Owner != node.Name
}

// silent tells whether a node went silent and is not likely to come back at once.
func (w World) silent(m Member) bool { return m.Life == Dead && w.Now.Sub(m.Since) > silentTime }

// near is an address of a node, of a family and in a subnet of one of this node's links; invalid if that
// node does not forward for us, or is not so near.
func (w World) near(name string, is4 bool, links []string) netip.Addr {
	node, known := w.member(name)
	own, _ := w.member(w.Node)
	if !known || name == w.Node || w.silent(node) {
		return netip.Addr{}
	}
	for _, link := range own.Meta.Links {
		if !slices.Contains(links, link.Name) {
			continue
		}
		if to := node.Meta.within(link.Subnets, is4); to.IsValid() {
			return to
		}
	}
	return netip.Addr{}
}

// memberAt returns the speaker of the node that has an address.
func (w World) memberAt(address netip.Addr) (Member, bool) {
	for _, m := range w.Members {
		for _, link := range m.Meta.Links {
			if slices.Contains(link.Addresses, address) {
				return m, true
			}
		}
	}
	return Member{}, false
}

// within returns the node's first address of a family in one of the subnets.
func (m Meta) within(subnets []netip.Prefix, is4 bool) netip.Addr {
	for _, link := range m.Links {
		for _, address := range link.Addresses {
			in := func(p netip.Prefix) bool { return p.Contains(address) }
			if address.Is4() == is4 && slices.ContainsFunc(subnets, in) {
				return address
			}
		}
	}
	return netip.Addr{}
}
