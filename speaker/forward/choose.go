package forward

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// choice is which endpoints of one port in one family are used (the rules of
// Kubernetes' CategorizeEndpoints).
type choice struct {
	cluster []endpoint // for policy Cluster
	local   []endpoint // for policy Local
	any     bool       // some endpoint could serve, here or elsewhere
}

// choose applies readiness, termination (KEP-1669), topology hints (KEP-2433,
// KEP-3015) and what is known about dead nodes to a port's endpoints.
func (t *translation) choose(all []endpoint) choice {
	alive := keep(all, func(e endpoint) bool { return e.node == "" || !t.node.Dead[e.node] || e.local })
	c := t.chooseAmong(alive)
	if len(alive) == len(all) {
		return c
	}
	if !c.any {
		return t.chooseAmong(all) // nothing else is left
	}
	t.reason(DeadNodeAvoided, "%d endpoints on nodes that do not answer are avoided", len(all)-len(alive))
	return c
}

func (t *translation) chooseAmong(all []endpoint) choice {
	var c choice
	ready := keep(all, func(e endpoint) bool { return e.ready })
	draining := keep(all, endpoint.draining)
	c.any = len(ready)+len(draining) > 0
	c.cluster = t.nearby(ready)
	if len(ready) == 0 {
		c.cluster = draining
	}
	c.local = keep(ready, func(e endpoint) bool { return e.local })
	if len(c.local) == 0 {
		c.local = keep(draining, func(e endpoint) bool { return e.local })
	}
	return c
}

// nearby keeps the ready endpoints that are hinted for this node, or else for
// its zone. Hints count only if every endpoint has some and some are for us.
func (t *translation) nearby(ready []endpoint) []endpoint {
	node := keep(ready, func(e endpoint) bool { return slices.Contains(e.nodes, t.node.Name) })
	if all(ready, func(e endpoint) bool { return len(e.nodes) > 0 }) && len(node) > 0 {
		t.reason(corev1.ServiceTrafficDistributionPreferSameNode, "%d of %d endpoints are used: those hinted for this node", len(node), len(ready))
		return node
	}
	zone := keep(ready, func(e endpoint) bool { return slices.Contains(e.zones, t.node.Zone) })
	if all(ready, func(e endpoint) bool { return len(e.zones) > 0 }) && len(zone) > 0 {
		t.reason(corev1.ServiceTrafficDistributionPreferSameZone, "%d of %d endpoints are used: those hinted for zone %q", len(zone), len(ready), t.node.Zone)
		return zone
	}
	return ready
}

// keep returns those that pass: the list itself if all do, as is most often so. Nobody writes into what it returns.
func keep(es []endpoint, f func(endpoint) bool) []endpoint {
	n := 0
	for i := range es {
		if f(es[i]) {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case len(es):
		return es
	}
	out := make([]endpoint, 0, n)
	for i := range es {
		if f(es[i]) {
			out = append(out, es[i])
		}
	}
	return out
}

func all(es []endpoint, f func(endpoint) bool) bool {
	for _, e := range es {
		if !f(e) {
			return false
		}
	}
	return true
}

func places(es []endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(es))
	for _, e := range es {
		out = append(out, e.at)
	}
	return out
}
