package main

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// mergeAll makes routes of offers, which are sorted by prefix; leaving ones if the node is about to go.
func mergeAll(offers []offer, leaving bool) []bgp.Route {
	var routes []bgp.Route
	var last []*config.BGP // the advertisements of the route before, which mostly are those of the next as well
	for len(offers) > 0 {
		n := run(offers, func(o offer) bool { return o.prefix == offers[0].prefix })
		prefix := offers[0].prefix
		ads := speaking(offers[:n])
		offers = offers[n:]
		if len(routes) > 0 && slices.Equal(ads, last) {
			route := routes[len(routes)-1]
			route.Prefix = prefix
			routes = append(routes, route)
			continue
		}
		route := merge(prefix, ads)
		if leaving {
			route = route.Draining()
		}
		routes, last = append(routes, route), ads
	}
	return routes
}

// speaking returns the advertisements that have a say about one prefix, each once. Spare offers say nothing beside others.
func speaking(offers []offer) []*config.BGP {
	onlySpare := !slices.ContainsFunc(offers, func(o offer) bool { return !o.spare })
	ads := make([]*config.BGP, 0, 4)
	for _, o := range offers { // sorted by advertisement
		if (onlySpare || !o.spare) && (len(ads) == 0 || ads[len(ads)-1] != o.by) {
			ads = append(ads, o.by)
		}
	}
	return ads
}

// merge makes one route of what advertisements say: communities are united, and of what can only be said once the most
// attractive counts.
func merge(prefix netip.Prefix, ads []*config.BGP) bgp.Route {
	route := newRoute(prefix, ads[0])
	for _, by := range ads[1:] {
		route = unite(route, newRoute(prefix, by))
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
