package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/nft"
)

// awayTime is for how long a speaker that said goodbye is expected back: its node goes on forwarding while it restarts.
const awayTime = 30 * time.Second

// rings says, by address, which node is asked next for a connection that this one does not know. Routers spread an
// address that several nodes announce by a hash, and whenever one of them comes or goes they lead connections to other
// nodes than before, also such as have nothing to do with that node. The nodes of a ring are those
// that may announce the address, by name; speakers with the same world agree about it. It does not matter who announces
// right now: a node that is drained is avoided, and still has its connections.
func rings(w World) map[netip.Addr]netip.Addr {
	own, known := w.member(w.Node)
	here, exists := w.node(w.Node)
	if !known || !exists || len(w.Config.BGP) == 0 {
		return nil
	}
	next := map[netip.Addr]netip.Addr{}
	after := w.after(here)
	all := collectBids(&w)
	for len(all) > 0 {
		n := run(all, func(b bid) bool { return b.addr == all[0].addr })
		group := all[:n:n]
		all = all[n:]
		// Others may be addresses of a node, with connections of its own.
		if group[0].kind != v1beta1.AddressLoadBalancer || !w.advertised(here, group) {
			continue
		}
		for _, node := range after {
			member, _ := w.member(node.Name)
			if to := reach(own, member, group[0].addr); to.IsValid() && w.advertised(node, group) {
				next[group[0].addr] = to
				break
			}
		}
	}
	return next
}

// after are the other nodes that may have connections, beginning with the one whose name is next.
func (w World) after(here Node) []Node {
	var before, behind []Node
	for _, node := range w.Nodes {
		member, known := w.member(node.Name)
		switch {
		case !known || node.Name == here.Name || !w.forwards(node, member) || !w.hasPeer(node):
		case strings.Compare(node.Name, here.Name) < 0:
			before = append(before, node)
		default:
			behind = append(behind, node)
		}
	}
	return append(behind, before...)
}

// forwards tells whether a node most likely goes on forwarding. One that fell silent most likely does not: as long as routers lead
// its connections to itself, nobody asks for them, and what the others ask for would be lost with it.
func (w World) forwards(node Node, member Member) bool {
	return member.Life == Alive || member.Life == Left && node.Leaving == "" && w.Now.Sub(member.Since) < awayTime
}

func (w World) hasPeer(node Node) bool {
	return slices.ContainsFunc(w.Config.Peers, func(p config.BGPPeer) bool { return p.Nodes.MatchOrEmpty(node.Labels) })
}

// advertised tells whether an advertisement lets a node announce an address.
func (w World) advertised(node Node, group []bid) bool {
	return slices.ContainsFunc(group, func(b bid) bool {
		answer := w.Config.BGPFor(config.BGPQuery{Addr: b.addr, Kind: b.kind, Service: b.service.Labels, Node: node.Labels})
		return len(answer.Advertisements) > 0
	})
}

// reach is an address of another node in a subnet of a link of this one, of the family of addr; invalid if it has none:
// what is passed on to a node goes to its MAC address.
func reach(own, other Member, addr netip.Addr) netip.Addr {
	for _, link := range own.Meta.Links {
		if to := other.Meta.within(link.Subnets, addr.Is4()); to.IsValid() {
			return to
		}
	}
	return netip.Addr{}
}

// ringSize is of how many nodes the rings are at most; 0 without any. It does not depend on who is alive, so it rarely changes.
func (w World) ringSize(next map[netip.Addr]netip.Addr) (size int64) {
	if len(next) == 0 {
		return 0
	}
	for _, node := range w.Nodes {
		if w.hasPeer(node) {
			size++
		}
	}
	return size
}

// openRings readies the kernel for join. Without it connections break when routers choose anew, as they would without us.
func (p *peering) openRings() {
	opened, err := nft.OpenRings()
	if err != nil {
		p.log.Warn("connections that routers lead to another node may be lost", "error", err)
		return
	}
	p.rings = opened
}

// join makes the kernel ask the next node of each ring. It looks at the kernel also if nothing changed, at times: somebody
// may have made its table anew.
func (p *peering) join(ctx context.Context, w World) {
	next := rings(w)
	if size := w.ringSize(next); p.ring.Swap(size) != size {
		p.ringed()
	}
	same := maps.Equal(p.joined, next)
	if p.rings == nil || same && (len(next) == 0 || w.Now.Sub(p.joinedAt) < readAgain) {
		return
	}
	if err := p.rings.Apply(ctx, next); err != nil {
		p.log.Warn("connections that routers lead to another node may be lost", "error", err)
		return
	}
	if !same {
		p.log.Info("connections that routers lead here are looked for at other nodes, too", "addresses", len(next))
	}
	p.joined, p.joinedAt = next, w.Now
}
