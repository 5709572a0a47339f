package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// labVariable names the lab of this checkout, so that several fit on one machine, each in a checkout of its own.
const labVariable = "FAIRLEAD_LAB"

// labName is what tells this lab from others on the machine: "fairlead", or "fairlead-NAME" with FAIRLEAD_LAB=NAME.
func labName() string {
	if name := os.Getenv(labVariable); name != "" {
		return "fairlead-" + name
	}
	return "fairlead"
}

// nodesVariable says how many nodes the lab has, if not three.
const nodesVariable = "FAIRLEAD_NODES"

// Fewer nodes than these have no place for the sample's pods; the addresses of more would be those of others.
const fewestNodes, mostNodes = 3, 9

// nodeCount is how many nodes the lab has. checkNodes tells of a number that it cannot have.
func nodeCount() int {
	if n, err := strconv.Atoi(os.Getenv(nodesVariable)); err == nil {
		return min(max(n, fewestNodes), mostNodes)
	}
	return fewestNodes
}

// prefix starts the name of every network namespace of the lab.
func prefix() string { return labName() + "-" }

// A subnet is one broadcast domain of the lab: a bridge in a namespace of its own.
type subnet struct {
	Name string
	V4   netip.Prefix
	V6   netip.Prefix
}

// A nic attaches a host to a subnet. Last is the last number of both of its addresses: 11 is
// 172.30.0.11 and fd30::11.
type nic struct {
	Subnet subnet
	Last   int
}

// A role says what runs on a host.
type role string

const (
	roleControl role = "control"
	roleNode    role = "node"
	roleClient  role = "client"
	roleFRR     role = "router (FRR)"
	roleBIRD    role = "router (BIRD)"
)

// A host is one machine of the lab. Its interfaces are named eth0, eth1 in the order of NICs.
type host struct {
	Name   string
	Role   role
	NICs   []nic
	Zone   string // of a node: topology.kubernetes.io/zone
	Number int    // of a node: the N of its pod subnets 10.244.N.0/24 and fd44:N::/64
}

var (
	lan = subnet{"lan", netip.MustParsePrefix("172.30.0.0/24"), netip.MustParsePrefix("fd30::/64")}
	wan = subnet{"wan", netip.MustParsePrefix("172.31.0.0/24"), netip.MustParsePrefix("fd31::/64")}
)

// Addresses and ranges that the control plane, the manifests and the documentation share.
const (
	serviceCIDRs = "10.96.0.0/16,fd96::/112"
	clusterCIDRs = "10.244.0.0/16,fd44::/16"
	dnsV4        = "10.96.0.10"
	dnsV6        = "fd96::a"
	apiAddress   = "172.30.0.10"
	apiPort      = "6443"
	// gatewayLast is the last number of router's addresses: the default route of every other host.
	gatewayLast = 1
)

// subnets lists the broadcast domains of the lab.
func subnets() []subnet { return []subnet{lan, wan} }

// hosts lists the machines of the lab in the order in which they are shown and started.
func hosts() []host { return hostsWith(nodeCount()) }

// everyHost lists the machines that a lab of any number of nodes may have.
func everyHost() []host { return hostsWith(mostNodes) }

func hostsWith(nodes int) []host {
	all := []host{{Name: "control", Role: roleControl, NICs: []nic{{lan, 10}}}}
	for n := 1; n <= nodes; n++ {
		zone := "b"
		if n == 1 {
			zone = "a"
		}
		all = append(all, host{Name: fmt.Sprintf("node%d", n), Role: roleNode, NICs: []nic{{lan, 10 + n}}, Zone: zone, Number: n})
	}
	return append(all,
		host{Name: "client", Role: roleClient, NICs: []nic{{lan, 20}}},
		host{Name: "router", Role: roleFRR, NICs: []nic{{lan, gatewayLast}, {wan, gatewayLast}}},
		host{Name: "router2", Role: roleBIRD, NICs: []nic{{lan, 2}, {wan, 2}}},
		host{Name: "remote", Role: roleClient, NICs: []nic{{wan, 20}}},
	)
}

// nodes lists the hosts that run pods.
func nodes() []host {
	return slices.DeleteFunc(hosts(), func(h host) bool { return h.Role != roleNode })
}

// findHost returns the host of that name; the error names all hosts.
func findHost(name string) (host, error) {
	var names []string
	for _, h := range hosts() {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	return host{}, fmt.Errorf("no host %q in the lab, it has %v", name, names)
}

// netnsName is the name under which `ip netns` knows the host.
func (h host) netnsName() string { return prefix() + h.Name }

// netnsName is the name of the namespace that holds the subnet's bridge.
func (s subnet) netnsName() string { return prefix() + s.Name }

// addresses returns the IPv4 and the IPv6 address of number last: the decimal digits are written as they
// are into both, so 200 is 172.30.0.200 and fd30::200.
func (s subnet) addresses(last int) (v4, v6 netip.Addr) {
	b := s.V4.Addr().As4()
	b[3] = byte(last)
	return netip.AddrFrom4(b), netip.MustParseAddr(fmt.Sprintf("%s%d", s.V6.Addr(), last))
}

// prefixes returns the addresses of the interface with their prefix lengths, IPv4 first.
func (n nic) prefixes() []netip.Prefix {
	v4, v6 := n.Subnet.addresses(n.Last)
	return []netip.Prefix{
		netip.PrefixFrom(v4, n.Subnet.V4.Bits()),
		netip.PrefixFrom(v6, n.Subnet.V6.Bits()),
	}
}

// mac derives the interface's hardware address from its IPv4 address, so that captures are easy to read.
func (n nic) mac() []byte {
	v4, _ := n.Subnet.addresses(n.Last)
	b := v4.As4()
	return []byte{0x02, 0x00, b[0], b[1], b[2], b[3]}
}

// podCIDRs returns the subnets of the node's pods, IPv4 first.
func (h host) podCIDRs() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", h.Number)),
		netip.MustParsePrefix(fmt.Sprintf("fd44:%d::/64", h.Number)),
	}
}

// forwards says whether the host passes packets on.
func (h host) forwards() bool {
	return h.Role == roleNode || h.Role == roleFRR || h.Role == roleBIRD
}

// A route sends packets for Dst to the neighbour Via.
type route struct {
	Dst netip.Prefix
	Via netip.Addr
}

// routes lists what the host needs beyond its own subnets: a default route over router, and the way to the
// pods of every other node for hosts that play a part of the cluster's network. Clients have the default
// route only, as they would outside a cluster.
func (h host) routes() []route {
	var routes []route
	if len(h.NICs) == 1 {
		v4, v6 := h.NICs[0].Subnet.addresses(gatewayLast)
		routes = append(routes, route{netip.MustParsePrefix("0.0.0.0/0"), v4}, route{netip.MustParsePrefix("::/0"), v6})
	}
	if h.Role == roleClient {
		return routes
	}
	for _, n := range nodes() {
		if n.Name == h.Name {
			continue
		}
		v4, v6 := n.NICs[0].Subnet.addresses(n.NICs[0].Last)
		cidrs := n.podCIDRs()
		routes = append(routes, route{cidrs[0], v4}, route{cidrs[1], v6})
	}
	return routes
}
