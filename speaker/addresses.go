package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/speaker/links"
)

func splitKey(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// prefixes parses what the API server has validated; what does not parse is left out. The result is sorted and masked.
func prefixes(texts []string) []netip.Prefix {
	var found []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			found = append(found, prefix.Masked())
		}
	}
	slices.SortFunc(found, comparePrefixes)
	return slices.Compact(found)
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// nodeAddresses returns a node's InternalIPs in the order of its status: the
// first of each family is primary.
func nodeAddresses(node *corev1.Node) []netip.Addr {
	var found []netip.Addr
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(address.Address); err == nil {
			found = append(found, addr.Unmap())
		}
	}
	return found
}

// balancerAddresses returns the addresses in a Service's status that packets
// may arrive for, sorted: those of ipMode Proxy belong to the proxy outside.
func balancerAddresses(svc *corev1.Service) []netip.Addr {
	var found []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode != nil && *ingress.IPMode == corev1.LoadBalancerIPModeProxy {
			continue
		}
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			found = append(found, addr.Unmap())
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found)
}

// nodePortAddresses says which of a node's addresses answer on node ports: its
// primary ones, those in a prefix, and those of a link with that name.
type nodePortAddresses struct {
	primary bool
	within  []netip.Prefix
	links   []string
}

// parseNodePortAddresses reads a comma-separated list of "primary", CIDRs and
// names of interfaces; "" is "primary".
func parseNodePortAddresses(text string) (nodePortAddresses, error) {
	n := nodePortAddresses{primary: text == ""}
	for part := range strings.SplitSeq(text, ",") {
		switch part = strings.TrimSpace(part); {
		case part == "":
		case part == "primary":
			n.primary = true
		case strings.Contains(part, "/"):
			within, err := parsePrefixes(part)
			if err != nil {
				return n, err
			}
			n.within = append(n.within, within...)
		case isLinkName(part):
			n.links = append(n.links, part)
		default:
			return n, fmt.Errorf("%q is not primary, a CIDR or an interface: write primary, an address and a prefix length such as 192.168.0.0/24, or a name such as eth0", part)
		}
	}
	return n, nil
}

// isLinkName tells whether the kernel would take it. An address that lacks its prefix length is no name.
func isLinkName(text string) bool {
	_, err := netip.ParseAddr(text)
	return err != nil && len(text) <= 15 && !strings.ContainsAny(text, " \t\n/:")
}

// parsePrefixes reads a comma-separated list of CIDRs; "" is none.
func parsePrefixes(text string) ([]netip.Prefix, error) {
	var found []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR: write an address and a prefix length, such as 192.168.0.0/24 or fd00::/64", part)
		}
		found = append(found, prefix.Masked())
	}
	slices.SortFunc(found, comparePrefixes)
	return slices.Compact(found), nil
}

// choose picks among the node's addresses: internal are those of its status,
// local all that its interfaces have. Loopback and link-local addresses never
// answer. The result is sorted.
func (n nodePortAddresses) choose(internal []netip.Addr, local []links.Link) []netip.Addr {
	var chosen []netip.Addr
	for _, is6 := range []bool{false, true} {
		if i := slices.IndexFunc(internal, func(a netip.Addr) bool { return a.Is6() == is6 }); n.primary && i >= 0 {
			chosen = append(chosen, internal[i])
		}
	}
	for _, link := range local {
		for _, prefix := range link.Prefixes {
			addr := prefix.Addr()
			if addr.IsLoopback() || addr.IsLinkLocalUnicast() {
				continue
			}
			if slices.Contains(n.links, link.Name) || slices.ContainsFunc(n.within, func(p netip.Prefix) bool { return p.Contains(addr) }) {
				chosen = append(chosen, addr)
			}
		}
	}
	slices.SortFunc(chosen, netip.Addr.Compare)
	return slices.Compact(chosen)
}
