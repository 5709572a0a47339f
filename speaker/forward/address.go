package forward

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// parseAddr reads an address the way Kubernetes does: leading zeros, which its
// older versions let in, are decimal.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil && strings.Count(s, ".") == 3 && !strings.Contains(s, ":") {
		a, err = netip.ParseAddr(withoutZeros(s))
	}
	return a.Unmap(), err == nil && a.Zone() == ""
}

func withoutZeros(s string) string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		parts[i] = strings.TrimLeft(p, "0")
		if parts[i] == "" && p != "" {
			parts[i] = "0"
		}
	}
	return strings.Join(parts, ".")
}

// parsePrefix reads a CIDR as parseAddr reads addresses.
func parsePrefix(s string) (netip.Prefix, bool) {
	addr, bits, found := strings.Cut(strings.TrimSpace(s), "/")
	a, ok := parseAddr(addr)
	if !found || !ok {
		return netip.Prefix{}, false
	}
	if trimmed := strings.TrimLeft(bits, "0"); trimmed != "" {
		bits = trimmed
	} else if bits != "" {
		bits = "0"
	}
	p, err := netip.ParsePrefix(a.String() + "/" + bits)
	return p.Masked(), err == nil
}

// special says why no Service can have an address, "" if it is an ordinary one.
func special(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "it is the unspecified address"
	case a.IsLoopback():
		return "it is a loopback address"
	case a.IsLinkLocalUnicast():
		return "it is a link-local address"
	case a.IsMulticast():
		return "it is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is the broadcast address"
	case a.Is4() && a.As4()[0] == 0:
		return "it means this network (RFC 1122)"
	}
	return ""
}

func within(a netip.Addr, ps []netip.Prefix) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

// refuseCluster says why an address cannot be a ClusterIP, "" if it can.
func (n Node) refuseCluster(a netip.Addr) string {
	switch why := special(a); {
	case why != "":
		return why
	case n.isNode(a):
		return "it is a node's address"
	case within(a, n.PodCIDRs):
		return "it is in the range of pods"
	}
	return ""
}

// refuseExternal says why an external address and port cannot be captured, ""
// if it can: externalIPs and even the status of a Service are written by
// people who may not speak for that address.
func (n Node) refuseExternal(a netip.Addr, port uint16) string {
	switch why := special(a); {
	case why != "":
		return why
	case within(a, n.ServiceCIDRs):
		return "it is in the range of ClusterIPs"
	case within(a, n.PodCIDRs):
		return "it is in the range of pods"
	case slices.Contains(n.Protected, netip.AddrPortFrom(a, port)):
		return "it is the API server's"
	case n.ReservedPorts[port] && n.isNode(a):
		return "the node itself serves that port"
	}
	return ""
}

// isNode tells whether an address is a node's.
func (n Node) isNode(a netip.Addr) bool {
	return slices.Contains(n.Addresses, a) || slices.Contains(n.Peers, a) ||
		slices.ContainsFunc(n.Protected, func(p netip.AddrPort) bool { return p.Addr() == a })
}

// refuseEndpoint says why an address cannot be an endpoint, "" if it can. A
// packet that is sent to a Service's own address again would never arrive.
func (t *translation) refuseEndpoint(at netip.AddrPort, proto nft.Proto) string {
	a := at.Addr()
	switch why := special(a); {
	case why != "":
		return why
	case within(a, t.node.ServiceCIDRs):
		return "it is in the range of ClusterIPs"
	case !t.own[a]:
		return ""
	case !slices.Contains(t.node.Addresses, a):
		return "it is an address of the Service itself"
	case t.isFrontend(at, proto):
		return "it is a frontend of the Service itself"
	}
	return ""
}

// isFrontend tells whether the Service has a port of that number.
func (t *translation) isFrontend(at netip.AddrPort, proto nft.Proto) bool {
	return slices.ContainsFunc(t.svc.Spec.Ports, func(p corev1.ServicePort) bool {
		n, ok := protocol(p.Protocol)
		return ok && n == proto && p.Port == int32(at.Port())
	})
}
