// Package bgp speaks BGP to the routers outside the cluster: it tells each peer
// which prefixes this node answers for, and nothing else. It never learns a route.
//
// The room holds one session per peer. gobgp is the BGP speaker of each session,
// in-process, one server per session, so that what a peer is told is exactly what
// that server's table holds. Between gobgp and the peer sits a wire of our own
// (wire.go): it dials, so that the reason a peer cannot be reached is known; it lets
// nothing but well-formed OPEN, KEEPALIVE, NOTIFICATION and ROUTE-REFRESH messages
// in, so that a peer can neither fill our memory nor reach gobgp's parsers with
// garbage; and it reads the NOTIFICATIONs that name why a session ended.
//
// The room may touch TCP sockets to peers and on the loopback interface, ICMPv6
// sockets on the interfaces of unnumbered peers, and the clock. Which prefixes go to
// whom, Kubernetes, the kernel's routing table and BFD are out of scope: the caller
// tells the room when a path is down (Room.Drop, Peer.Blocked).
package bgp

import (
	"net/netip"
	"slices"
	"time"
)

// Family is an address family that a session carries, unicast only.
type Family string

// The families a session may carry (RFC 4760: AFI 1 and 2, SAFI 1).
const (
	IPv4 Family = "ipv4-unicast"
	IPv6 Family = "ipv6-unicast"
)

// ASNRule says which autonomous systems a peer may be in.
type ASNRule int

const (
	// Exact accepts Peer.PeerASN only.
	Exact ASNRule = iota
	// Internal accepts Peer.LocalASN only.
	Internal
	// External accepts every ASN but Peer.LocalASN.
	External
)

// Wish is everything the peers shall know: the whole of it, each time. The zero Wish
// withdraws every route and closes every session.
type Wish struct {
	// Peers in any order; Peer.Key is unique.
	Peers []Peer
	// Routes by Peer.Key, in any order; a prefix at most once per peer. Keys without
	// a peer are ignored. Routes of a family the session does not carry are not sent.
	Routes map[string][]Route
}

// Peer is one session's settings. It is a value: two Peers that are Equal are the same
// session, and nothing but a change of this value ever touches a running session.
type Peer struct {
	// Key names the session in Wish.Routes, Report and logs: the BGPPeer's name.
	Key string
	// Address of the peer, with a zone if it is link-local. Invalid if Interface is
	// set: then the peer is whoever sends router advertisements there.
	Address netip.Addr
	// Interface makes the session unnumbered if Address is invalid; otherwise the
	// session is bound to that interface.
	Interface string
	// VRF is the VRF device the session is bound to; empty for the default one.
	VRF string
	// Port of the peer; 0 is 179.
	Port uint16
	// ListenPort is where the peer may connect to us, too; 0 for nowhere.
	ListenPort uint16

	// LocalASN is our ASN towards this peer.
	LocalASN uint32
	// PeerASN is read if ASN is Exact.
	PeerASN uint32
	// ASN says which ASN the peer may have.
	ASN ASNRule
	// RouterID is ours, IPv4. Required.
	RouterID netip.Addr

	// Source is the address to connect from; invalid lets the kernel choose.
	Source netip.Addr
	// HoldTime as proposed in OPEN; 0 is 90 s, the smallest is 3 s. Whole seconds.
	HoldTime time.Duration
	// Keepalive interval; 0 is a third of the negotiated hold time. Whole seconds.
	Keepalive time.Duration
	// ConnectRetry is the longest pause between two attempts; 0 is 5 s.
	ConnectRetry time.Duration
	// Password is the TCP MD5 key (RFC 2385), at most 80 bytes; empty for none.
	Password string
	// MultihopTTL is the TTL of our packets to an external peer that is not on the
	// link; 0 means on the link (TTL 1). Internal peers always get 64.
	MultihopTTL uint8
	// TTLSecurity is the number of hops the peer may be away (GTSM, RFC 5082): 1 on
	// the link; 0 switches the check off. Excludes MultihopTTL.
	TTLSecurity uint8
	// Families the session offers, none twice; empty is the family of Address.
	Families []Family
	// GracefulRestart is the time the peer keeps our routes after the session broke
	// (RFC 4724); 0 offers no graceful restart. Whole seconds up to 4095.
	GracefulRestart time.Duration
	// PathWait is for how long routes wait after the session came up, unless Room.PathUp says before that BFD watches its
	// path; 0 for not at all. A change is for the next connection.
	PathWait time.Duration
	// NextHops overrides the next hop of each family that is among them. By default
	// it is the session's local address, and for the other family an address of the
	// interface that has it.
	NextHops []netip.Addr

	// Blocked, if not empty, keeps the session down and says why ("Secret x not
	// found", "BFD down"). The report repeats it.
	Blocked string
}

// Metric is an optional number of a route: LOCAL_PREF, MED.
type Metric struct {
	Value uint32
	Set   bool
}

// LargeCommunity is an RFC 8092 community.
type LargeCommunity struct{ Global, Data1, Data2 uint32 }

// GracefulShutdown is the well-known community of RFC 8326.
const GracefulShutdown uint32 = 65535 << 16

// Route is one prefix with what is said about it.
type Route struct {
	// Prefix is masked.
	Prefix netip.Prefix
	// NextHop overrides the peer's; invalid for none.
	NextHop netip.Addr
	// LocalPref is sent to internal peers only.
	LocalPref Metric
	MED       Metric
	// Prepend is how many times LocalASN is put in front once more (external peers).
	Prepend int
	// Communities and Large are sorted, without duplicates.
	Communities []uint32
	Large       []LargeCommunity
}

// Equal says whether both routes tell the peer the same.
func (r Route) Equal(o Route) bool {
	return r.Prefix == o.Prefix && r.NextHop == o.NextHop &&
		r.LocalPref == o.LocalPref && r.MED == o.MED && r.Prepend == o.Prepend &&
		slices.Equal(r.Communities, o.Communities) && slices.Equal(r.Large, o.Large)
}

// Draining returns the route as it is told before a planned withdrawal: with the
// GRACEFUL_SHUTDOWN community and the lowest local preference (RFC 8326 §4).
func (r Route) Draining() Route {
	at, found := slices.BinarySearch(r.Communities, GracefulShutdown)
	if !found {
		r.Communities = slices.Insert(slices.Clone(r.Communities), at, GracefulShutdown)
	}
	r.LocalPref = Metric{Set: true}
	return r
}

// Equal says whether both values are the same session with the same settings.
func (p Peer) Equal(o Peer) bool {
	return p.sameSession(o) && p.ConnectRetry == o.ConnectRetry && p.Blocked == o.Blocked && p.ListenPort == o.ListenPort &&
		p.PathWait == o.PathWait && slices.Equal(p.NextHops, o.NextHops)
}

// sameSession says whether a running session of p can go on under o's settings.
func (p Peer) sameSession(o Peer) bool {
	if !slices.Equal(p.Families, o.Families) {
		return false
	}
	type settings struct { // every field of Peer that OPEN or the socket carries
		key, iface, vrf, password string
		address, routerID, source netip.Addr
		port                      uint16
		local, peer               uint32
		asn                       ASNRule
		hold, keepalive, restart  time.Duration
		multihop, security        uint8
	}
	of := func(p Peer) settings {
		return settings{
			p.Key, p.Interface, p.VRF, p.Password, p.Address, p.RouterID, p.Source, p.Port,
			p.LocalASN, p.PeerASN, p.ASN, p.HoldTime, p.Keepalive, p.GracefulRestart,
			p.MultihopTTL, p.TTLSecurity,
		}
	}
	return of(p) == of(o)
}
