package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// bid is one address of one Service.
type bid struct {
	addr    netip.Addr
	kind    v1beta1.AddressKind
	service *Service
}

// collectBids returns the addresses of all Services, by address and then by Service.
func collectBids(w *World) []bid {
	bids := make([]bid, 0, 2*len(w.Services))
	for i := range w.Services {
		service := &w.Services[i]
		bids = appendBids(bids, service, v1beta1.AddressLoadBalancer, service.Addresses)
		bids = appendBids(bids, service, v1beta1.AddressCluster, service.ClusterIPs)
		bids = appendBids(bids, service, v1beta1.AddressExternal, service.ExternalIPs)
	}
	slices.SortFunc(bids, func(a, b bid) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.service.Key, b.service.Key), strings.Compare(string(b.kind), string(a.kind)))
	})
	return bids
}

func appendBids(bids []bid, service *Service, kind v1beta1.AddressKind, addrs []netip.Addr) []bid {
	for _, addr := range addrs {
		bids = append(bids, bid{addr, kind, service})
	}
	return bids
}

// local tells whether only nodes with an endpoint can answer.
func (b bid) local() bool {
	if b.kind == v1beta1.AddressCluster {
		return b.service.InternalLocal
	}
	return b.service.Local
}

// served tells whether a node can answer. A Service without an endpoint anywhere keeps no node from answering for those
// it shares the address with.
func (b bid) served(node string) bool {
	return !b.local() || b.service.EndpointsOn[node] || len(b.service.EndpointsOn) == 0
}

// judgeBids returns the advertisements by which a node announces an address to any of its peers, by name; if there are
// none, the reason. An address that is not BGP's concern has none and no reason.
func (w *World) judgeBids(node Node, group []bid, peers []bgp.Peer) (ads []*config.BGP, reason, message string) {
	for i, b := range group {
		answer := w.Config.BGPFor(config.BGPQuery{Addr: b.addr, Kind: b.kind, Service: b.service.Labels, Node: node.Labels})
		if i == 0 {
			ads = answer.Advertisements
		} else {
			ads = append(slices.Clip(ads), answer.Advertisements...)
		}
		if reason == "" || len(answer.Advertisements) > 0 {
			reason, message = answer.Reason, answer.Message
		}
	}
	if len(group) > 1 {
		slices.SortFunc(ads, func(a, b *config.BGP) int { return strings.Compare(a.Name, b.Name) })
		ads = slices.Compact(ads)
	}
	addr := group[0].addr
	away := slices.IndexFunc(group, func(b bid) bool { return !b.served(node.Name) })
	switch {
	case len(ads) == 0:
		return nil, reason, message
	case !hasEndpoints(group):
		return nil, v1beta1.ReasonNoEndpoints, fmt.Sprintf("%s: no endpoint of %s is ready", addr, strings.Join(servicesOf(group), ", "))
	case node.Excluded != "":
		return nil, v1beta1.ReasonNodeExcluded, fmt.Sprintf("%s: %s", addr, node.Excluded)
	case away >= 0:
		return nil, v1beta1.ReasonNoLocalEndpoint, fmt.Sprintf("%s: the traffic policy of %s is Local and it has no ready endpoint on this node", addr, group[away].service.Key)
	case !tellsAny(ads, peers, addr):
		return nil, v1beta1.ReasonNoPeer, fmt.Sprintf("%s: this node has no session for %s with a peer that BGPAdvertisement %s tells", addr, config.FamilyOf(addr), ads[0].Name)
	}
	return ads, v1beta1.ReasonAnnounced, ""
}

func hasEndpoints(group []bid) bool {
	return slices.ContainsFunc(group, func(b bid) bool { return b.service.HasEndpoints })
}

// served tells whether a node can answer for all Services of an address.
func served(group []bid, node string) bool {
	return !slices.ContainsFunc(group, func(b bid) bool { return !b.served(node) })
}

// servicesOf returns the Services of an address, sorted.
func servicesOf(group []bid) []string {
	var found []string
	for _, b := range group {
		found = append(found, b.service.Key)
	}
	return slices.Compact(found)
}

// tellsAny tells whether there is a peer that an advertisement tells and whose session carries the address's family.
func tellsAny(ads []*config.BGP, peers []bgp.Peer, addr netip.Addr) bool {
	return slices.ContainsFunc(peers, func(peer bgp.Peer) bool {
		return carries(peer.Families, addr) && slices.ContainsFunc(ads, func(a *config.BGP) bool { return a.ToPeer(peer.Key) })
	})
}

// others tells whether another node, that is alive and stays, tells a peer of an address.
func (w *World) others(group []bid, peer string) bool {
	i := slices.IndexFunc(w.Config.Peers, func(p config.BGPPeer) bool { return p.Name == peer && p.Broken == "" })
	if i < 0 || !hasEndpoints(group) {
		return false
	}
	session := []bgp.Peer{{Key: peer, Families: families(w.resolve(w.Config.Peers[i]))}}
	return slices.ContainsFunc(w.Nodes, func(node Node) bool {
		if node.Name == w.Node || node.Leaving != "" || !served(group, node.Name) || !w.Config.Peers[i].Nodes.MatchOrEmpty(node.Labels) {
			return false
		}
		if member, known := w.member(node.Name); !known || member.Life != Alive {
			return false
		}
		ads, _, _ := w.judgeBids(node, group, session)
		return len(ads) > 0
	})
}
