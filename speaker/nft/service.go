package nft

import (
	"net/netip"
)

// Proto is an IP protocol number. Only TCP, UDP and SCTP are forwarded.
type Proto uint8

// The protocols of a Service port.
const (
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

// Kind says what happens to the first packet of a connection to a frontend.
type Kind uint8

const (
	// Reject answers TCP with a reset and everything else with ICMP port
	// unreachable: nothing can serve this frontend.
	Reject Kind = iota
	// Drop lets the packet vanish: a Local policy forbids the endpoints there are.
	Drop
	// Cluster goes to the target; sources that are not pods are masqueraded.
	Cluster
	// External goes to the target and is always masqueraded.
	External
	// Local is externalTrafficPolicy Local: pods and this node go to the Short
	// target (pods keep their address), everybody else goes to the target
	// with the client's address kept, or is dropped if there is no target.
	Local
)

// Pick says how an endpoint is chosen among those of a target.
type Pick uint8

const (
	// Random chooses evenly, anew for every connection.
	Random Pick = iota
	// Hash chooses by the client's address and port, the same on every node
	// for the same endpoints (rendezvous hashing with even shares).
	Hash
)

// Target is one list of endpoints that frontends of a Service share.
type Target struct {
	// Endpoints are distinct, sorted, and of one family. Never empty.
	Endpoints []netip.AddrPort
	Pick      Pick
	// Affinity is how many seconds a client keeps its endpoint after its last
	// new connection; 0 is no session affinity.
	Affinity uint32
}

// None is the index of no target.
const None = -1

// Frontend is one address, protocol and port that a Service answers on.
type Frontend struct {
	// Addr is the destination address. The unspecified address of a family
	// (0.0.0.0, ::) makes it a node port: every address of
	// Static.NodePortAddresses of that family.
	Addr  netip.Addr
	Proto Proto
	Port  uint16
	Kind  Kind
	// Target and Short index Service.Targets, or are None. Short is read only
	// for kind Local. Target is None for Reject and Drop, and for a Local
	// frontend without a local endpoint.
	Target, Short int
	// Guarded drops every source outside Sources (loadBalancerSourceRanges).
	// Sources are of the frontend's family.
	Guarded bool
	Sources []netip.Prefix
	// Rank decides between Services that claim the same frontend, before their
	// age does: the lower one wins. See RankCluster.
	Rank Rank
}

// Rank orders claims on one frontend by how they are given out.
type Rank uint8

const (
	// RankCluster is for ClusterIPs and node ports, which the API server
	// gives out once only.
	RankCluster Rank = iota
	// RankBalancer is for addresses a load balancer controller wrote.
	RankBalancer
	// RankExternal is for externalIPs, which anybody can write.
	RankExternal
)

// IsNodePort tells whether the frontend is a node port.
func (f Frontend) IsNodePort() bool { return f.Addr.IsUnspecified() }

// Serving is every endpoint that may still serve a port (ready, or terminating
// and serving, whatever the policies say). Conntrack entries of UDP and SCTP
// connections to a frontend of that protocol and port name that lead elsewhere are stale.
type Serving struct {
	// Frontends index Service.Frontends.
	Frontends []int
	Endpoints []netip.AddrPort
}

// Service is all that one Kubernetes Service wishes of the kernel, both
// families. The zero Service wishes nothing.
type Service struct {
	// Created is the Service's creation time in Unix seconds. Of two Services that
	// claim a frontend with the same Rank the older wins, then the lesser key.
	Created   int64
	Targets   []Target
	Frontends []Frontend
	// Addresses are those whose other ports are rejected (ClusterIPs).
	Addresses []netip.Addr
	// Hairpin are the local endpoints' addresses: one that reaches itself
	// through the Service is masqueraded.
	Hairpin []netip.Addr
	// Serving is for UDP and SCTP frontends only; a frontend without an entry
	// has no stale connections.
	Serving []Serving
}

// IsZero tells whether the Service wishes nothing at all.
func (s Service) IsZero() bool {
	return len(s.Frontends) == 0 && len(s.Addresses) == 0
}

// Static is what the rules need to know about this node and its cluster.
// Lists may be in any order and mix families.
type Static struct {
	// PodCIDRs are the addresses of pods, of the whole cluster or of this node.
	// None for a family: nobody is recognised as a pod, and traffic to
	// ClusterIPs is never masqueraded.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are where ClusterIPs come from; unallocated ones are dropped.
	ServiceCIDRs []netip.Prefix
	// NodePortAddresses are this node's addresses that answer on node ports.
	NodePortAddresses []netip.Addr
	// Announced are the addresses Fairlead announces. Ports that no Service has
	// are rejected, so that a router and a node never play ball with them.
	// They must not be addresses of a node.
	Announced []netip.Addr
	// AnswerEcho makes this node answer pings to the addresses in Echo: of the
	// Announced ones those behind which there is somebody.
	AnswerEcho bool
	Echo       []netip.Addr
	// MasqueradeMark is the packet mark bit used between the NAT hooks;
	// 0 is DefaultMasqueradeMark.
	MasqueradeMark uint32
	// MasqueradeAll masquerades pods' traffic to ClusterIPs, too.
	MasqueradeAll bool
	// DropInvalid drops forwarded packets from pods that conntrack finds
	// invalid. Not needed where net.netfilter.nf_conntrack_tcp_be_liberal is 1.
	DropInvalid bool
	// Ring is how many nodes, this one among them, routers lead announced addresses to; 0 for none. Packets that
	// conntrack finds invalid then take the way of a ring, or none, which costs every forwarded packet a test.
	Ring int
}

// DefaultMasqueradeMark is the bit that Kubernetes reserves for its service
// proxy, so network plugins keep off it. What kube-proxy may have left behind
// does the same with it as we do.
const DefaultMasqueradeMark = 0x4000

// Wish is a step from what was wished before to what is wished now.
type Wish struct {
	Static Static
	// Changed holds the Services that changed, by "namespace/name".
	// A zero Service is gone.
	Changed map[string]Service
	// Full says that Changed is everything: other Services are gone, and the
	// kernel is read back first. The first wish of a Table must be full.
	Full bool
}

// Report says what an Apply reached.
type Report struct {
	// Services, Frontends and Endpoints count what is in force. Endpoints
	// counts the entries of all targets.
	Services, Frontends, Endpoints int
	// Transactions is 0 if the kernel already held the wish, else from 1 to 3: one
	// that leads packets by the new wish, one before it for new chains and source
	// ranges, and one after it for what nothing leads to any more.
	Transactions int
	// Elements counts all that the sets and maps hold but for what packets wrote.
	Elements int
	// Errors counts the transactions that failed.
	Errors int
	// Added and Deleted count elements in the transactions, Rules their rules.
	Added, Deleted, Rules int
	// ReadBack tells whether the kernel's state was read.
	ReadBack bool
	// Connections is how many stale conntrack entries were deleted,
	// Sessions how many affinity entries.
	Connections, Sessions int
	// Contests are the frontends that more than one Service claims, sorted.
	Contests []Contest
}

// Contest is a frontend that several Services claim.
type Contest struct {
	Frontend string   // such as "203.0.113.7 tcp 80", "nodeport ip tcp 30080"
	Winner   string   // namespace/name
	Losers   []string // namespace/name, best claim first
}
