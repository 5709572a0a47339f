package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
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

// nodePortAddresses says which of a node's addresses answer on node ports:
// its primary ones if there are no prefixes.
type nodePortAddresses struct {
	within []netip.Prefix
}

// parseNodePortAddresses reads "primary" or a comma-separated list of CIDRs.
func parseNodePortAddresses(text string) (nodePortAddresses, error) {
	if text == "" || text == "primary" {
		return nodePortAddresses{}, nil
	}
	within, err := parsePrefixes(text)
	return nodePortAddresses{within: within}, err
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
func (n nodePortAddresses) choose(internal, local []netip.Addr) []netip.Addr {
	var chosen []netip.Addr
	if len(n.within) == 0 {
		for _, is6 := range []bool{false, true} {
			if i := slices.IndexFunc(internal, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
				chosen = append(chosen, internal[i])
			}
		}
		return chosen
	}
	for _, addr := range local {
		if addr.IsLoopback() || addr.IsLinkLocalUnicast() {
			continue
		}
		if slices.ContainsFunc(n.within, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			chosen = append(chosen, addr)
		}
	}
	slices.SortFunc(chosen, netip.Addr.Compare)
	return slices.Compact(chosen)
}
