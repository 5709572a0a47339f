package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// RoutePlan is what this node tells routers, and why it does not tell more.
type RoutePlan struct {
	Wish bgp.Wish
	// Watch says how the paths to peers are watched, by the peer's key; peers that are not have none.
	Watch map[string]PathWatch
	// Drain says for how long a peer is asked to prefer other nodes before routes are withdrawn, by the peer's key.
	Drain map[string]time.Duration
	// Told holds the addresses of Services that each peer learns from this node, alone or in a prefix: sorted.
	Told map[string][]netip.Addr
	// Refusals are the addresses that advertisements select and this node does not announce.
	Refusals []Refusal
	// Problems are what else is not as users wrote it, sorted.
	Problems []problem
	// Next is when time alone changes the plan; 0 for never.
	Next time.Duration
}

// PathWatch is how the path to a peer is watched.
type PathWatch struct {
	Profile  bfd.Profile
	Multihop bool
}

// Refusal is why this node does not announce an address.
type Refusal struct {
	Address  netip.Addr
	Services []string // namespace/name, sorted
	Reason   string   // a Reason constant of the API
	Message  string   // the reason in a sentence
	// Elsewhere tells that another node announces the address, or that Layer 2 is to.
	Elsewhere bool
}

// Routes says what this node tells which peer. Speakers with the same world come to plans that fit together.
func Routes(w World) RoutePlan {
	p := planner{w: &w, withdrawn: map[netip.Addr]bool{}, told: map[string]tale{}, plan: RoutePlan{
		Wish:  bgp.Wish{Routes: map[string][]bgp.Route{}},
		Watch: map[string]PathWatch{}, Drain: map[string]time.Duration{}, Told: map[string][]netip.Addr{},
	}}
	var known bool
	if p.here, known = w.node(w.Node); !known {
		return p.plan
	}
	p.peer()
	var offers []offer
	if len(w.Config.BGP) > 0 { // else nothing is for routers
		offers = p.offer()
	}
	for _, peer := range p.plan.Wish.Peers {
		p.tell(peer, offers)
	}
	slices.SortFunc(p.plan.Problems, compareProblems)
	return p.plan
}

// node returns a node by name.
func (w World) node(name string) (Node, bool) {
	i := slices.IndexFunc(w.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return w.Nodes[i], true
}

// planner makes a plan.
type planner struct {
	w    *World
	here Node
	plan RoutePlan
	// strangers are the addresses that this node cannot serve and others can, each with its Services: by address.
	strangers [][]bid
	withdrawn map[netip.Addr]bool // because the node is drained
	told      map[string]tale     // by peer
}

// tale is what a peer learns.
type tale struct {
	offers  []offer
	leaving bool
}

// offer is a prefix that this node could announce for an address, as one advertisement says.
type offer struct {
	prefix netip.Prefix
	by     *config.BGP
	bids   []bid // of the one address
	// spare is the address itself beside a prefix: it leads traffic to the nodes that have an endpoint, and is announced
	// to peers that no advertisement tells of the address itself.
	spare bool
}

func (o offer) equal(other offer) bool {
	return o.prefix == other.prefix && o.by == other.by && o.spare == other.spare && o.address() == other.address()
}

func (o offer) address() netip.Addr { return o.bids[0].addr }

// compareOffers orders by prefix, then by advertisement, then by address.
func compareOffers(a, b offer) int {
	return cmp.Or(comparePrefixes(a.prefix, b.prefix), strings.Compare(a.by.Name, b.by.Name), a.address().Compare(b.address()))
}

// alone returns the prefix of one address.
func alone(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// offer collects what this node can announce, sorted by prefix.
func (p *planner) offer() []offer {
	offers := make([]offer, 0, 2*len(p.w.Services))
	all := collectBids(p.w)
	for len(all) > 0 {
		n := run(all, func(b bid) bool { return b.addr == all[0].addr })
		group := all[:n:n]
		all = all[n:]
		ads, reason, message := p.w.judgeBids(p.here, group, p.plan.Wish.Peers)
		if reason != "" && !served(group, p.here.Name) {
			p.strangers = append(p.strangers, group)
		}
		if len(ads) == 0 && reason != "" {
			p.refuse(group, reason, message)
		}
		for _, by := range ads {
			offers = p.offerOne(offers, group, by)
		}
	}
	slices.SortFunc(offers, compareOffers)
	return offers
}

// run returns how many elements at the beginning are alike.
func run[T any](all []T, alike func(T) bool) int {
	n := slices.IndexFunc(all, func(e T) bool { return !alike(e) })
	if n < 0 {
		return len(all)
	}
	return n
}

// offerOne adds the prefix in which one advertisement announces an address and, where not every node that announces the
// prefix can serve the address, the address itself.
func (p *planner) offerOne(offers []offer, group []bid, by *config.BGP) []offer {
	addr := group[0].addr
	prefix := alone(addr)
	if group[0].kind == v1beta1.AddressLoadBalancer {
		prefix = p.w.Config.Aggregate(by, addr)
	}
	offers = append(offers, offer{prefix: prefix, by: by, bids: group})
	if prefix != alone(addr) && slices.ContainsFunc(group, bid.local) {
		offers = append(offers, offer{prefix: alone(addr), by: by, bids: group, spare: true})
	}
	return offers
}

func (p *planner) refuse(group []bid, reason, message string) {
	refusal := Refusal{Address: group[0].addr, Services: servicesOf(group), Reason: reason, Message: message}
	refusal.Elsewhere = reason == v1beta1.ReasonNoAdvertisement && p.layer2(group) ||
		slices.ContainsFunc(p.w.Config.Peers, func(peer config.BGPPeer) bool { return p.w.others(group, peer.Name) })
	p.plan.Refusals = append(p.plan.Refusals, refusal)
}

// layer2 tells whether an address that no BGPAdvertisement takes is announced by Layer 2, or ought to be.
func (p *planner) layer2(group []bid) bool {
	answer := p.w.Config.L2For(config.L2Query{Addr: group[0].addr, Service: group[0].service.Labels, Node: p.here.Labels})
	return answer.Reason != v1beta1.ReasonAnnouncedByBGP
}

// tell says what one peer learns.
func (p *planner) tell(session bgp.Peer, offers []offer) {
	peer := session.Key
	leaving, gone := p.drain(peer)
	mine := make([]offer, 0, len(offers))
	for _, o := range offers {
		switch {
		case !o.by.ToPeer(peer) || !carries(session.Families, o.address()):
		case gone && p.w.others(o.bids, peer):
			p.withdraw(o)
		default:
			mine = append(mine, o)
		}
	}
	mine = p.withhold(peer, mine)
	for other, same := range p.told { // peers mostly learn the same, and it may be much
		if same.leaving == leaving && slices.EqualFunc(same.offers, mine, offer.equal) {
			p.plan.Wish.Routes[peer], p.plan.Told[peer] = p.plan.Wish.Routes[other], p.plan.Told[other]
			return
		}
	}
	p.told[peer] = tale{mine, leaving}
	p.plan.Wish.Routes[peer] = mergeAll(mine, leaving)
	told := make([]netip.Addr, 0, len(mine))
	for _, o := range mine {
		told = append(told, o.address())
	}
	slices.SortFunc(told, netip.Addr.Compare)
	p.plan.Told[peer] = slices.Compact(told)
}

// drain tells whether routes are announced to a peer as ones that are about to go, and whether their time is over.
func (p *planner) drain(peer string) (leaving, gone bool) {
	if p.here.Leaving == "" {
		return false, false
	}
	left := p.plan.Drain[peer]
	if !p.w.DrainingSince.IsZero() {
		left -= p.w.Now.Sub(p.w.DrainingSince)
	}
	if left > 0 && (p.plan.Next == 0 || left < p.plan.Next) {
		p.plan.Next = left
	}
	return true, left <= 0
}

// withdraw takes note of an address that the node no longer announces because it is drained, once for all peers.
func (p *planner) withdraw(o offer) {
	if p.withdrawn[o.address()] {
		return
	}
	p.withdrawn[o.address()] = true
	p.plan.Refusals = append(p.plan.Refusals, Refusal{
		Address: o.address(), Services: servicesOf(o.bids), Reason: v1beta1.ReasonNodeDraining, Elsewhere: true,
		Message: fmt.Sprintf("%s: %s and other nodes announce it", o.address(), p.here.Leaving),
	})
}

// withhold replaces prefixes by the addresses in them where a prefix would attract traffic that this node cannot serve:
// that of strangers, unless nodes that can serve them tell the same peer of them. Offers are, and stay, sorted by prefix.
func (p *planner) withhold(peer string, offers []offer) []offer {
	if len(p.strangers) == 0 {
		return offers
	}
	verdicts := map[netip.Prefix]bool{}
	changed := false
	for i, o := range offers {
		if o.prefix.IsSingleIP() {
			continue
		}
		withheld, known := verdicts[o.prefix]
		if !known {
			withheld = p.attracts(peer, o.prefix)
			verdicts[o.prefix] = withheld
		}
		if withheld {
			offers[i].prefix = alone(o.address())
			changed = true
		}
	}
	if changed {
		slices.SortFunc(offers, compareOffers)
	}
	return offers
}

// attracts tells whether a prefix would bring this node the traffic of a stranger.
func (p *planner) attracts(peer string, prefix netip.Prefix) bool {
	from, _ := slices.BinarySearchFunc(p.strangers, prefix.Addr(), func(group []bid, addr netip.Addr) int { return group[0].addr.Compare(addr) })
	for _, group := range p.strangers[from:] {
		if !prefix.Contains(group[0].addr) {
			return false
		}
		if !p.w.others(group, peer) {
			p.plan.Problems = append(p.plan.Problems, problem{"service/" + group[0].service.Key, v1beta1.ReasonAggregateWithheld, fmt.Sprintf(
				"%s is not announced to %s: %s of %s is in it, has no endpoint here, and no other node tells %s of it",
				prefix, peer, group[0].addr, group[0].service.Key, peer)})
			return true
		}
	}
	return false
}
