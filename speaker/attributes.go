package main

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// merge makes one route of the offers of one prefix: communities are united, and of what can only be said once the most
// attractive counts. Spare offers say nothing beside others.
func merge(offers []offer) bgp.Route {
	if slices.ContainsFunc(offers, func(o offer) bool { return !o.spare }) {
		offers = slices.DeleteFunc(slices.Clone(offers), func(o offer) bool { return o.spare })
	}
	route := newRoute(offers[0].prefix, offers[0].by)
	last := offers[0].by
	for _, o := range offers[1:] {
		if o.by == last { // the same prefix for another address
			continue
		}
		last = o.by
		route = unite(route, newRoute(o.prefix, o.by))
	}
	return route
}

func newRoute(prefix netip.Prefix, by *config.BGP) bgp.Route {
	route := bgp.Route{
		Prefix: prefix, LocalPref: bgp.Metric(by.LocalPref), MED: bgp.Metric(by.MED), Prepend: by.Prepend,
		Communities: by.Communities,
	}
	for _, large := range by.Large {
		route.Large = append(route.Large, bgp.LargeCommunity(large))
	}
	return route
}

// unite returns a route that says what both say.
func unite(a, b bgp.Route) bgp.Route {
	if b.LocalPref.Set && (!a.LocalPref.Set || b.LocalPref.Value > a.LocalPref.Value) {
		a.LocalPref = b.LocalPref
	}
	if b.MED.Set && (!a.MED.Set || b.MED.Value < a.MED.Value) {
		a.MED = b.MED
	}
	if b.Prepend > 0 && (a.Prepend == 0 || b.Prepend < a.Prepend) {
		a.Prepend = b.Prepend
	}
	a.Communities = slices.Concat(a.Communities, b.Communities)
	slices.Sort(a.Communities)
	a.Communities = slices.Compact(a.Communities)
	a.Large = slices.Concat(a.Large, b.Large)
	slices.SortFunc(a.Large, func(x, y bgp.LargeCommunity) int {
		return config.CompareLarge(config.LargeCommunity(x), config.LargeCommunity(y))
	})
	a.Large = slices.Compact(a.Large)
	return a
}

// farewell returns a wish with all its routes told as ones that are about to go (RFC 8326).
func farewell(wish bgp.Wish) bgp.Wish {
	routes := map[string][]bgp.Route{}
	for peer, all := range wish.Routes {
		for _, route := range all {
			routes[peer] = append(routes[peer], route.Draining())
		}
	}
	return bgp.Wish{Peers: wish.Peers, Routes: routes}
}
