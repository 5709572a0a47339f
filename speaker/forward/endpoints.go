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
func (t *translation) collect(all []*discoveryv1.EndpointSlice) map[portKey][]endpoint {
	found := map[portKey][]endpoint{}
	for _, s := range all {
		if !belongs(t.svc, s) {
			continue
		}
		for _, p := range s.Ports {
			key, number, ok := slicePort(s, p)
			if !ok {
				continue
			}
			es := slices.Grow(found[key], len(s.Endpoints))
			for i := range s.Endpoints {
				if e, ok := t.endpoint(&s.Endpoints[i], key, number); ok {
					es = append(es, e)
				}
			}
			found[key] = es
		}
	}
	for key, es := range found {
		found[key] = sortEndpoints(es)
	}
	return found
}

// sortEndpoints orders endpoints and keeps the best of those that are the same.
func sortEndpoints(es []endpoint) []endpoint {
	order := func(a, b endpoint) int { return cmp.Or(a.at.Compare(b.at), better(a, b)) }
	if !slices.IsSortedFunc(es, order) {
		slices.SortFunc(es, order)
	}
	return slices.CompactFunc(es, func(a, b endpoint) bool { return a.at == b.at })
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

// endpoint reads one endpoint, and tells whether it is one for this port.
func (t *translation) endpoint(from *discoveryv1.Endpoint, key portKey, port uint16) (endpoint, bool) {
	if len(from.Addresses) == 0 {
		return endpoint{}, false
	}
	addr, ok := parseAddr(from.Addresses[0])
	if !ok || addr.Is6() != key.v6 {
		return endpoint{}, false
	}
	e := endpoint{at: netip.AddrPortFrom(addr, port)}
	if why := t.refuseEndpoint(e.at, key.proto); why != "" {
		t.reason(EndpointRefused, "endpoint %s is left out: %s", e.at, why)
		return endpoint{}, false
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
	return e, true
}

// better orders duplicates, the better one first, so that the order of slices
// makes no difference: one that does not terminate is a new pod that got the address of an old one.
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
