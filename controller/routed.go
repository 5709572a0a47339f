package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// routed is which addresses routers know from which nodes, as the speakers tell it. Nodes mostly tell the same, so what
// is the same is kept once: an address is looked up in as many groups as there are differences, not nodes.
type routed []routedGroup

// routedGroup are addresses that some nodes tell the same peers.
type routedGroup struct {
	nodes, peers []string         // sorted
	ranges       []netipx.IPRange // sorted
}

// readRouted reads what all speakers tell but those that are gone: their routers have forgotten it.
func readRouted(speakers []v1beta1.Speaker, gone map[string]bool) routed {
	groups := map[string]*routedGroup{}
	for _, speaker := range speakers {
		if gone[speaker.Name] {
			continue
		}
		for _, routes := range speaker.Status.Routes {
			key := routes.Peers + " " + strings.Join(routes.Addresses, " ")
			group, known := groups[key]
			if !known {
				group = &routedGroup{peers: strings.Split(routes.Peers, ","), ranges: parseRanges(routes.Addresses)}
				groups[key] = group
			}
			group.nodes = append(group.nodes, speaker.Name)
		}
	}
	var all routed
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		slices.Sort(groups[key].nodes)
		all = append(all, *groups[key])
	}
	return all
}

func parseRanges(texts []string) []netipx.IPRange {
	ranges := make([]netipx.IPRange, 0, len(texts))
	for _, text := range texts {
		if r, err := config.ParseRange(text); err == nil {
			ranges = append(ranges, r)
		}
	}
	slices.SortFunc(ranges, func(a, b netipx.IPRange) int { return a.From().Compare(b.From()) })
	return ranges
}

func (g routedGroup) has(addr netip.Addr) bool {
	i, found := slices.BinarySearchFunc(g.ranges, addr, func(r netipx.IPRange, addr netip.Addr) int { return r.From().Compare(addr) })
	return found || i > 0 && g.ranges[i-1].Contains(addr)
}

// by says which nodes tell which peers of an address, "" if none does.
func (r routed) by(addr netip.Addr) string {
	nodes, peers := map[string]bool{}, map[string]bool{}
	for _, group := range r {
		if !group.has(addr) {
			continue
		}
		for _, node := range group.nodes {
			nodes[node] = true
		}
		for _, peer := range group.peers {
			peers[peer] = true
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return fmt.Sprintf("BGP from %s to %s", fewText("node", nodes), fewText("peer", peers))
}

// fewText lists a few names. Of many it says that they are many and not how many: were each node named on each
// Service, a node that comes or goes would be a write for every Service there is.
func fewText(kind string, names map[string]bool) string {
	const few = 5
	switch {
	case len(names) > few:
		return fmt.Sprintf("more than %d %ss", few, kind)
	case len(names) > 1:
		kind += "s"
	}
	return kind + " " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// silentNodes returns the nodes whose speakers more of the others hold dead or gone than alive: what their Speaker objects
// say is of the past, and they cannot say so themselves.
func silentNodes(speakers []v1beta1.Speaker) map[string]bool {
	votes := map[string]int{}
	for _, speaker := range speakers {
		for _, member := range speaker.Status.Members {
			switch {
			case member.Name == speaker.Name:
			case member.State == "alive":
				votes[member.Name]--
			default:
				votes[member.Name]++
			}
		}
	}
	silent := map[string]bool{}
	for name, balance := range votes {
		silent[name] = balance > 0
	}
	return silent
}
