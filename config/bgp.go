package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// BGPPeer is what a BGPPeer means. Zero values of its settings stand for the defaults.
type BGPPeer struct {
	Name  string
	Nodes Selectors // that have a session; empty: all

	// Address of the peer, with Interface as its zone if it is link-local. Invalid if the peer is whoever is at the
	// other end of Interface, or with FromGateway.
	Address     netip.Addr
	Interface   string
	FromGateway bool // the peer is the node's default gateway
	VRF         string
	Port        uint16
	ListenPort  uint16 // where it may connect to us; 0: nowhere

	LocalASN uint32 // ours towards this peer
	PeerASN  uint32 // if Dynamic is empty
	Dynamic  v1beta1.DynamicASN
	RouterID netip.Addr // invalid: the node's
	Source   netip.Addr // invalid: the kernel chooses

	HoldTime    time.Duration
	Keepalive   time.Duration
	ConnectTime time.Duration

	Password string // empty: none, or that of Secret
	Secret   string // name of the Secret that has the password; empty: none

	BFD             *BFDProfile   // nil: the path is not watched
	GracefulRestart time.Duration // 0: none
	DrainTime       time.Duration // 0: routes are withdrawn at once
	MultiHop        bool
	TTLSecurity     uint8
	DualStack       bool

	// Broken, if not empty, says in a sentence why there can be no session.
	Broken string
}

// Internal reports whether the peer is known to be in our own AS (iBGP).
func (p BGPPeer) Internal() bool {
	return p.Dynamic == v1beta1.DynamicASNInternal || p.Dynamic == "" && p.PeerASN == p.LocalASN
}

// BFDProfile is what a BFDProfile means. Zero values stand for the defaults.
type BFDProfile struct {
	Name       string
	Receive    time.Duration
	Transmit   time.Duration
	Multiplier uint8
	Passive    bool
	MinimumTTL uint8
	Echo       time.Duration
	EchoMode   bool
}

// Number is a number that may be absent.
type Number struct {
	Value uint32
	Set   bool
}

// LargeCommunity is a community of RFC 8092.
type LargeCommunity struct{ Global, Data1, Data2 uint32 }

// BGP is what a BGPAdvertisement means.
type BGP struct {
	Name          string
	Pools         []string  // beside those PoolSelectors select; both empty: all
	PoolSelectors Selectors // one that matches is enough
	Nodes         Selectors // empty: all
	Services      Selectors // empty: all
	Peers         []string  // sorted; empty: all
	Kinds         []v1beta1.AddressKind

	AggregationLength   int // of IPv4: 1 to 32
	AggregationLengthV6 int // 1 to 128

	LocalPref   Number
	MED         Number
	Prepend     int
	Communities []uint32         // sorted, without duplicates
	Large       []LargeCommunity // sorted, without duplicates
}

// ToPeer reports whether a peer is told.
func (a BGP) ToPeer(name string) bool {
	_, found := slices.BinarySearch(a.Peers, name)
	return found || len(a.Peers) == 0
}

// selectsPool reports whether the advertisement is about a pool; see L2.selectsPool.
func (a BGP) selectsPool(pool *Pool) bool {
	if !slices.Contains(a.Kinds, v1beta1.AddressLoadBalancer) {
		return false
	}
	if len(a.Pools) == 0 && len(a.PoolSelectors) == 0 {
		return true
	}
	return pool != nil && (slices.Contains(a.Pools, pool.Name) || a.PoolSelectors.Match(pool.Labels))
}

// BGPQuery asks what a node announces an address with.
type BGPQuery struct {
	Addr    netip.Addr
	Kind    v1beta1.AddressKind
	Service labels.Set // the labels of the Service that has the address
	Node    labels.Set // the labels of the node
}

// BGPAnswer says by which advertisements a node announces an address.
type BGPAnswer struct {
	Advertisements []*BGP // by name; empty: none, and Reason says why. The caller must not change them
	Reason         string // ReasonAnnounced if there are any; "" if no advertisement is about the address at all
	Message        string // for people; "" if Reason is ReasonAnnounced or ""
}

// BGPFor answers a query. An address of a kind or pool that no advertisement selects is not BGP's concern: the answer is
// zero. For an address shared by Services, ask for each of them.
func (c Config) BGPFor(q BGPQuery) BGPAnswer {
	var pool *Pool
	if i, ok := c.PoolOf(q.Addr); ok {
		pool = &c.Pools[i]
	}
	var forNode []*BGP
	var selecting, forService []string
	for i := range c.BGP {
		a := &c.BGP[i]
		switch {
		case q.Kind == v1beta1.AddressLoadBalancer && !a.selectsPool(pool) || !slices.Contains(a.Kinds, q.Kind):
		case !a.Services.MatchOrEmpty(q.Service):
			selecting = append(selecting, a.Name)
		case !a.Nodes.MatchOrEmpty(q.Node):
			forService = append(forService, a.Name)
		default:
			forNode = append(forNode, a)
		}
	}
	switch {
	case len(forNode) > 0:
		return BGPAnswer{Advertisements: forNode, Reason: v1beta1.ReasonAnnounced}
	case len(forService) > 0:
		return BGPAnswer{Reason: v1beta1.ReasonNodeNotSelected, Message: fmt.Sprintf("%s: the nodeSelectors of no BGPAdvertisement (%s) match this node", q.Addr, strings.Join(forService, ", "))}
	case len(selecting) > 0:
		return BGPAnswer{Reason: v1beta1.ReasonNoAdvertisement, Message: fmt.Sprintf("%s: the serviceSelectors of no BGPAdvertisement of its pool (%s) match the Service", q.Addr, strings.Join(selecting, ", "))}
	}
	return BGPAnswer{}
}

// Aggregate returns the prefix in which an advertisement announces an address that Fairlead gave: the address alone where
// the prefix would reach beyond the address's pool.
func (c Config) Aggregate(a *BGP, addr netip.Addr) netip.Prefix {
	bits := a.AggregationLength
	if addr.Is6() {
		bits = a.AggregationLengthV6
	}
	alone := netip.PrefixFrom(addr, addr.BitLen())
	if bits >= addr.BitLen() {
		return alone
	}
	i, ok := c.PoolOf(addr)
	if !ok {
		return alone
	}
	prefix := netip.PrefixFrom(addr, bits).Masked()
	if !c.Pools[i].declares(prefix) {
		return alone
	}
	return prefix
}

// declares reports whether all of a prefix is in the pool's ranges, as they are written: what the pool excludes and what
// another pool has of it counts.
func (p Pool) declares(prefix netip.Prefix) bool { return p.declared.ContainsPrefix(prefix) }
