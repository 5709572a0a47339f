package forward

import (
	"slices"

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
	var of []endpoint
	for key, es := range byPort {
		if key.v6 == v6 && len(of) == 0 {
			of = es
		} else if key.v6 == v6 {
			of = slices.Concat(of, es)
		}
	}
	if sorted := func(a, b endpoint) int { return a.at.Addr().Compare(b.at.Addr()) }; !slices.IsSortedFunc(of, sorted) {
		of = slices.SortedFunc(slices.Values(of), sorted)
	}
	var s Summary
	for len(of) > 0 {
		n := 1
		for n < len(of) && of[n].at.Addr() == of[0].at.Addr() {
			n++
		}
		count(of[:n], func(e endpoint) bool { return e.ready }, &s.Ready, &s.LocalReady)
		count(of[:n], func(e endpoint) bool { return !e.ready && e.draining() }, &s.Serving, &s.LocalServing)
		of = of[n:]
	}
	return s
}

// count adds one if any of an address's endpoints is such, and to local if any such is here.
func count(es []endpoint, such func(endpoint) bool, all, local *int) {
	if slices.ContainsFunc(es, such) {
		*all++
	}
	if slices.ContainsFunc(es, func(e endpoint) bool { return such(e) && e.local }) {
		*local++
	}
}
