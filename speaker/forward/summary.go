package forward

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// summarise counts endpoints. Pods of dual-stack Services have an address of
// each family: the family with more counts.
func (t *translation) summarise(byPort map[portKey][]endpoint) {
	s := &t.out.Summary
	for _, v6 := range []bool{false, true} {
		n := tally(byPort, v6)
		s.Ready, s.LocalReady = max(s.Ready, n.Ready), max(s.LocalReady, n.LocalReady)
		s.Serving, s.LocalServing = max(s.Serving, n.Serving), max(s.LocalServing, n.LocalServing)
	}
	local := policiesOf(t.svc).externalLocal
	s.Eligible = !local || s.LocalReady > 0 || (s.Ready == 0 && s.LocalServing > 0)
	if local && t.svc.Spec.Type == corev1.ServiceTypeLoadBalancer && t.svc.Spec.HealthCheckNodePort > 0 {
		s.HealthCheckNodePort = uint16(t.svc.Spec.HealthCheckNodePort)
	}
}

// tally counts the distinct addresses of one family.
func tally(byPort map[portKey][]endpoint, v6 bool) Summary {
	ready, draining := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for key, es := range byPort {
		if key.v6 != v6 {
			continue
		}
		for _, e := range es {
			if e.ready {
				ready[e.at.Addr()] = ready[e.at.Addr()] || e.local
			} else if e.draining() {
				draining[e.at.Addr()] = draining[e.at.Addr()] || e.local
			}
		}
	}
	var s Summary
	s.Ready, s.LocalReady = sizes(ready)
	s.Serving, s.LocalServing = sizes(draining)
	return s
}

func sizes(m map[netip.Addr]bool) (all, local int) {
	for _, is := range m {
		if is {
			local++
		}
	}
	return len(m), local
}
