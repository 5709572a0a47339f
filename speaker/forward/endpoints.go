package forward

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// endpoint is one address and port of a Service's port.
type endpoint struct {
	at                          netip.AddrPort
	node                        string
	local                       bool
	ready, serving, terminating bool
	zones, nodes                []string // hints
}

// draining endpoints still serve although they terminate (KEP-1669).
func (e endpoint) draining() bool { return !e.ready && e.serving && e.terminating }

// portKey is what an EndpointSlice's port and a Service's port have in common.
type portKey struct {
	name  string
	proto nft.Proto
	v6    bool
}

// headless is the label that takes an EndpointSlice out of a proxy's sight.
const headless = corev1.IsHeadlessService

// belongs tells whether a slice holds endpoints of the Service for a proxy.
func belongs(svc *corev1.Service, s *discoveryv1.EndpointSlice) bool {
	if s == nil || s.Namespace != svc.Namespace || s.Labels[discoveryv1.LabelServiceName] != svc.Name {
		return false
	}
	if _, is := s.Labels[headless]; is {
		return false
	}
	return s.AddressType == discoveryv1.AddressTypeIPv4 || s.AddressType == discoveryv1.AddressTypeIPv6
}

// collect gathers a Service's endpoints by port, sorted and each once.
func (t *translation) collect(slices []*discoveryv1.EndpointSlice) map[portKey][]endpoint {
	found := map[portKey]map[netip.AddrPort]endpoint{}
	for _, s := range slices {
		if !belongs(t.svc, s) {
			continue
		}
		for _, p := range s.Ports {
			key, number, ok := slicePort(s, p)
			if !ok {
				continue
			}
			if found[key] == nil {
				found[key] = map[netip.AddrPort]endpoint{}
			}
			for i := range s.Endpoints {
				t.add(found[key], &s.Endpoints[i], key, number)
			}
		}
	}
	out := make(map[portKey][]endpoint, len(found))
	for key, set := range found {
		out[key] = sortEndpoints(set)
	}
	return out
}

func sortEndpoints(set map[netip.AddrPort]endpoint) []endpoint {
	out := make([]endpoint, 0, len(set))
	for _, e := range set {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b endpoint) int { return a.at.Compare(b.at) })
	return out
}

// slicePort is the key and the number of a slice's port. A port without a
// name or number means nothing to a proxy.
func slicePort(s *discoveryv1.EndpointSlice, p discoveryv1.EndpointPort) (portKey, uint16, bool) {
	if p.Name == nil || p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
		return portKey{}, 0, false
	}
	proto := corev1.ProtocolTCP
	if p.Protocol != nil {
		proto = *p.Protocol
	}
	number, ok := protocol(proto)
	return portKey{*p.Name, number, s.AddressType == discoveryv1.AddressTypeIPv6}, uint16(*p.Port), ok
}

func protocol(p corev1.Protocol) (nft.Proto, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return nft.TCP, true
	case corev1.ProtocolUDP:
		return nft.UDP, true
	case corev1.ProtocolSCTP:
		return nft.SCTP, true
	}
	return 0, false
}

// add puts one endpoint into the set. Of two that are the same the one that
// does not terminate counts: a new pod that got the address of an old one.
func (t *translation) add(set map[netip.AddrPort]endpoint, from *discoveryv1.Endpoint, key portKey, port uint16) {
	if len(from.Addresses) == 0 {
		return
	}
	addr, ok := parseAddr(from.Addresses[0])
	if !ok || addr.Is6() != key.v6 {
		return
	}
	e := endpoint{at: netip.AddrPortFrom(addr, port)}
	if why := t.refuseEndpoint(e.at, key.proto); why != "" {
		t.reason(EndpointRefused, "endpoint %s is left out: %s", e.at, why)
		return
	}
	c := from.Conditions
	e.ready = c.Ready == nil || *c.Ready
	e.serving = c.Serving == nil || *c.Serving
	e.terminating = c.Terminating != nil && *c.Terminating
	if from.NodeName != nil {
		e.node = *from.NodeName
		e.local = e.node == t.node.Name
	}
	if from.Hints != nil {
		for _, z := range from.Hints.ForZones {
			e.zones = append(e.zones, z.Name)
		}
		for _, n := range from.Hints.ForNodes {
			e.nodes = append(e.nodes, n.Name)
		}
	}
	have, double := set[e.at]
	if !double || better(e, have) < 0 {
		set[e.at] = e
	}
}

// better orders duplicates, the better one first, so that the order of slices
// makes no difference.
func better(a, b endpoint) int {
	return cmp.Or(
		second(a.terminating, b.terminating),
		second(b.ready, a.ready),
		second(b.serving, a.serving),
		second(b.local, a.local),
		cmp.Compare(a.node, b.node),
		slices.Compare(a.zones, b.zones),
		slices.Compare(a.nodes, b.nodes),
	)
}

// second is positive if only a is true, negative if only b is.
func second(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
