package forward

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// fronts are a Service's own addresses by use, refused ones left out only
// where no port of them can be used.
type fronts struct {
	cluster, balancer, external []netip.Addr
}

// addresses reads all addresses of the Service.
func (t *translation) addresses() fronts {
	var f fronts
	spec := t.svc.Spec
	cluster := spec.ClusterIPs
	if len(cluster) == 0 {
		cluster = []string{spec.ClusterIP}
	}
	for _, a := range t.parse("ClusterIP", cluster) {
		if why := t.node.refuseCluster(a); why != "" {
			t.reason(AddressRefused, "ClusterIP %s is not forwarded: %s", a, why)
			continue
		}
		f.cluster = append(f.cluster, a)
	}
	var balancer []string
	for _, in := range t.svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			balancer = append(balancer, in.IP)
		}
	}
	f.balancer = t.parse("load balancer address", balancer)
	f.external = t.parse("externalIP", spec.ExternalIPs)
	for _, a := range slices.Concat(f.cluster, f.balancer, f.external) {
		t.own[a] = true
	}
	return f
}

func (t *translation) parse(what string, in []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range in {
		a, ok := parseAddr(s)
		switch {
		case !ok:
			t.reason(AddressRefused, "%s %q is not an address", what, s)
		case !slices.Contains(out, a):
			out = append(out, a)
		}
	}
	return out
}

// policies are how a Service's traffic is bound to this node.
type policies struct {
	internalLocal, externalLocal bool
}

func policiesOf(svc *corev1.Service) policies {
	var p policies
	p.internalLocal = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	accessible := svc.Spec.Type == corev1.ServiceTypeLoadBalancer || svc.Spec.Type == corev1.ServiceTypeNodePort || len(svc.Spec.ExternalIPs) > 0
	p.externalLocal = accessible && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	return p
}

// build makes the wish, port by port. A family without a ClusterIP is none of the Service's.
func (t *translation) build(f fronts, byPort map[portKey][]endpoint) {
	policy := policiesOf(t.svc)
	families := map[bool]bool{}
	for _, a := range f.cluster {
		if !families[a.Is6()] {
			t.out.Wish.Addresses = append(t.out.Wish.Addresses, a)
		}
		families[a.Is6()] = true
	}
	seen := map[ownPort]bool{}
	for _, p := range t.svc.Spec.Ports {
		proto, ok := protocol(p.Protocol)
		if !ok || p.Port < 1 || p.Port > 65535 {
			t.reason(AddressRefused, "port %d/%s is not forwarded: no such port or protocol", p.Port, p.Protocol)
			continue
		}
		for _, v6 := range []bool{false, true} {
			if families[v6] {
				key := portKey{p.Name, proto, v6}
				t.port(port{key: key, spec: p, policy: policy, seen: seen}, f, byPort[key])
			}
		}
	}
	slices.SortFunc(t.out.Wish.Hairpin, netip.Addr.Compare)
	t.out.Wish.Hairpin = slices.Compact(t.out.Wish.Hairpin)
}

// port is one port of a Service in one family.
type port struct {
	key    portKey
	spec   corev1.ServicePort
	policy policies
	seen   map[ownPort]bool // all frontends so far
	first  int              // where the port's frontends begin
}

// port adds the frontends of one port with their targets.
func (t *translation) port(p port, f fronts, es []endpoint) {
	w := &t.out.Wish
	p.first = len(w.Frontends)
	c := t.choose(es)
	cluster, local := t.target(c.cluster), nft.None
	external := len(f.balancer)+len(f.external) > 0 || p.spec.NodePort != 0
	if p.policy.internalLocal || (p.policy.externalLocal && external) {
		local = t.target(c.local)
	}
	inside := nft.Frontend{Kind: nft.Cluster, Target: cluster, Short: nft.None, Rank: nft.RankCluster}
	if p.policy.internalLocal {
		inside.Target = local
	}
	t.settle(&inside, c, p.policy.internalLocal)
	outside := nft.Frontend{Kind: nft.External, Target: cluster, Short: nft.None}
	if p.policy.externalLocal && c.any {
		outside = nft.Frontend{Kind: nft.Local, Target: local, Short: cluster}
		if local == nft.None && external {
			t.reason(NoLocalEndpoints, "traffic from outside is dropped: externalTrafficPolicy is Local and this node has no endpoint")
		}
	}
	t.settle(&outside, c, false)
	t.place(p, f, inside, outside)
	t.serve(p, es)
	for _, e := range slices.Concat(c.cluster, c.local) {
		if e.local && !slices.Contains(t.node.Addresses, e.at.Addr()) {
			w.Hairpin = append(w.Hairpin, e.at.Addr())
		}
	}
}

// settle turns a frontend that leads nowhere into one that says so.
func (t *translation) settle(f *nft.Frontend, c choice, local bool) {
	switch {
	case f.Target != nft.None || f.Kind == nft.Local:
	case local && c.any:
		f.Kind = nft.Drop
		t.reason(NoLocalEndpoints, "traffic from inside is dropped: internalTrafficPolicy is Local and this node has no endpoint")
	default:
		f.Kind = nft.Reject
		t.reason(NoEndpoints, "connections are refused: no endpoint is ready")
	}
}

// place adds a frontend for each address of the port's family.
func (t *translation) place(p port, f fronts, inside, outside nft.Frontend) {
	for _, a := range f.cluster {
		t.addFront(p, a, uint16(p.spec.Port), inside)
	}
	guarded, sources := t.sources(p.key.v6, f.balancer)
	for _, a := range f.balancer {
		front := outside
		front.Rank, front.Guarded, front.Sources = nft.RankBalancer, guarded, sources
		t.addExternal(p, a, front, "load balancer address")
	}
	for _, a := range f.external {
		front := outside
		front.Rank = nft.RankExternal
		t.addExternal(p, a, front, "externalIP")
	}
	if n := p.spec.NodePort; n > 0 && n <= 65535 {
		if t.node.ReservedPorts[uint16(n)] {
			t.reason(AddressRefused, "node port %d is not forwarded: the node itself serves that port", n)
			return
		}
		addr := netip.IPv4Unspecified()
		if p.key.v6 {
			addr = netip.IPv6Unspecified()
		}
		t.addFront(p, addr, uint16(n), outside)
	}
}

func (t *translation) addExternal(p port, a netip.Addr, f nft.Frontend, what string) {
	if a.Is6() != p.key.v6 {
		return
	}
	if why := t.node.refuseExternal(a, uint16(p.spec.Port)); why != "" {
		t.reason(AddressRefused, "%s %s port %d is not forwarded: %s", what, a, p.spec.Port, why)
		return
	}
	t.addFront(p, a, uint16(p.spec.Port), f)
}

// addFront adds a frontend unless the Service has it already: the first use of an
// address counts.
func (t *translation) addFront(p port, a netip.Addr, number uint16, f nft.Frontend) {
	id := ownPort{netip.AddrPortFrom(a, number), p.key.proto}
	if a.Is6() != p.key.v6 || p.seen[id] {
		return
	}
	p.seen[id] = true
	f.Addr, f.Proto, f.Port = a, p.key.proto, number
	t.out.Wish.Frontends = append(t.out.Wish.Frontends, f)
}

// target is the index of a target with these endpoints; nft.None for none.
// Lists that are the same are one target, but for affinity, which is a port's own.
func (t *translation) target(es []endpoint) int {
	if len(es) == 0 {
		return nft.None
	}
	want := nft.Target{Endpoints: places(es), Pick: t.pick, Affinity: affinity(t.svc)}
	for i, have := range t.out.Wish.Targets {
		if want.Affinity == 0 && slices.Equal(have.Endpoints, want.Endpoints) {
			return i
		}
	}
	t.out.Wish.Targets = append(t.out.Wish.Targets, want)
	return len(t.out.Wish.Targets) - 1
}

// affinity is how long clients keep their endpoint, 0 for not at all.
func affinity(svc *corev1.Service) uint32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	c := svc.Spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil || *c.ClientIP.TimeoutSeconds < 1 {
		return uint32(corev1.DefaultClientIPServiceAffinitySeconds)
	}
	return uint32(min(*c.ClientIP.TimeoutSeconds, maxAffinity))
}

// maxAffinity is the longest timeout Kubernetes accepts, a day.
const maxAffinity = 86400

// sources are loadBalancerSourceRanges of one family. A Service with ranges
// of the other family only is open in this one; one whose ranges nobody can read is closed.
func (t *translation) sources(v6 bool, balancer []netip.Addr) (bool, []netip.Prefix) {
	var out []netip.Prefix
	unreadable := false
	for _, s := range t.svc.Spec.LoadBalancerSourceRanges {
		p, ok := parsePrefix(s)
		switch {
		case !ok:
			unreadable = true
			t.reason(SourceRangeInvalid, "loadBalancerSourceRanges: %q is not a range such as 192.0.2.0/24", s)
		case p.Addr().Is6() != v6:
		case p.Bits() == 0:
			return false, nil
		default:
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return unreadable, nil
	}
	// A node that may connect may do so from the balancer's own address, too.
	if slices.ContainsFunc(t.node.Addresses, func(a netip.Addr) bool { return within(a, out) }) {
		for _, a := range balancer {
			if a.Is6() == v6 {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	slices.SortFunc(out, comparePrefixes)
	return true, slices.Compact(out)
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// serve notes which endpoints connections without an end of their own (UDP,
// SCTP) may still lead to, whatever policies say about new ones.
func (t *translation) serve(p port, es []endpoint) {
	w := &t.out.Wish
	if p.key.proto == nft.TCP || p.first == len(w.Frontends) {
		return
	}
	s := nft.Serving{Endpoints: places(keep(es, func(e endpoint) bool { return e.ready || e.serving }))}
	for i := p.first; i < len(w.Frontends); i++ {
		s.Frontends = append(s.Frontends, i)
	}
	w.Serving = append(w.Serving, s)
}
