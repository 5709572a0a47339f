package main

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// anyHops is the TTL towards an external peer that is several hops away.
const anyHops = 255

// peer sets the sessions of this node, by name. They depend on no Service: what Services do never touches a session.
func (p *planner) peer() {
	var before []config.BGPPeer
	for _, peer := range p.w.Config.Peers {
		if !peer.Nodes.MatchOrEmpty(p.here.Labels) {
			continue
		}
		peer = p.w.resolve(peer)
		session := p.w.session(peer)
		if twin := config.TwinOf(peer, before); twin != "" && session.Blocked == "" {
			session.Blocked = twin
			p.plan.Problems = append(p.plan.Problems, problem{"bgppeer/" + peer.Name, v1beta1.ReasonDuplicatePeer, twin})
		}
		before = append(before, peer)
		if peer.BFD != nil {
			session.PathWait = bgp.DefaultPathWait
			p.plan.Watch[peer.Name] = watchOf(peer)
		}
		p.plan.Wish.Peers = append(p.plan.Wish.Peers, session)
		p.plan.Drain[peer.Name] = peer.DrainTime
	}
}

// resolve finds the address of a peer that is this node's default gateway: that of IPv4, or that of IPv6.
func (w *World) resolve(peer config.BGPPeer) config.BGPPeer {
	if !peer.FromGateway || peer.Broken != "" {
		return peer
	}
	if len(w.Gateways) == 0 {
		peer.Broken = "this node has no default gateway: write peerAddress, or add a default route"
		return peer
	}
	peer.FromGateway, peer.Address = false, w.Gateways[0]
	if i := slices.IndexFunc(w.Gateways, netip.Addr.Is4); i >= 0 {
		peer.Address = w.Gateways[i]
	}
	return peer
}

// session returns the settings of the session with a peer.
func (w *World) session(peer config.BGPPeer) bgp.Peer {
	session := bgp.Peer{
		Key: peer.Name, Address: peer.Address, Interface: peer.Interface, VRF: peer.VRF, Port: peer.Port, ListenPort: peer.ListenPort,
		LocalASN: peer.LocalASN, PeerASN: peer.PeerASN, RouterID: w.routerID(peer), Source: peer.Source,
		HoldTime: peer.HoldTime, Keepalive: peer.Keepalive, ConnectRetry: peer.ConnectTime,
		Password: peer.Password, TTLSecurity: peer.TTLSecurity, Families: families(peer),
		GracefulRestart: peer.GracefulRestart, Blocked: peer.Broken,
	}
	switch peer.Dynamic {
	case v1beta1.DynamicASNInternal:
		session.ASN = bgp.Internal
	case v1beta1.DynamicASNExternal:
		session.ASN = bgp.External
	}
	if peer.MultiHop {
		session.MultihopTTL = anyHops
	}
	if peer.Secret == "" {
		return session
	}
	password, found := w.Secrets[peer.Secret]
	session.Password = password
	if session.Blocked == "" {
		session.Blocked = secretProblem(peer.Secret, password, found)
	}
	return session
}

// secretProblem says what is wrong with a Secret; "" if nothing is. An empty password would be none.
func secretProblem(name, password string, found bool) string {
	const longest = 80 // of TCP MD5 on Linux
	switch {
	case !found:
		return fmt.Sprintf("there is no Secret %s in the namespace Fairlead runs in: make it, with the password under the key %q", name, "password")
	case password == "":
		return fmt.Sprintf("the Secret %s has nothing under the key %q", name, "password")
	case len(password) > longest:
		return fmt.Sprintf("the password in the Secret %s has %d bytes: TCP MD5 takes at most %d", name, len(password), longest)
	}
	return ""
}

// families returns what a session carries: both where the peer has no address whose family could decide.
func families(peer config.BGPPeer) []bgp.Family {
	if peer.DualStack || !peer.Address.IsValid() {
		return []bgp.Family{bgp.IPv4, bgp.IPv6}
	}
	if peer.Address.Is4() {
		return []bgp.Family{bgp.IPv4}
	}
	return []bgp.Family{bgp.IPv6}
}

// routerID returns what a peer says, else the node's IPv4 address, else a number made from its name: the same for all
// peers of a node, and for all time.
func (w *World) routerID(peer config.BGPPeer) netip.Addr {
	if peer.RouterID.IsValid() {
		return peer.RouterID
	}
	if i := slices.IndexFunc(w.Addresses, netip.Addr.Is4); i >= 0 {
		return w.Addresses[i]
	}
	hash := fnv.New32a()
	fmt.Fprint(hash, w.Node)
	const never = 1 << 24 // 0.x.y.z is no router ID
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, hash.Sum32()|never)))
}

// watchOf says how the path to a peer is watched. Routers watch internal peers as if they were several hops away, unless
// they are unnumbered.
func watchOf(peer config.BGPPeer) PathWatch {
	unnumbered := !peer.Address.IsValid() || peer.Address.IsLinkLocalUnicast()
	return PathWatch{
		Profile: bfd.Profile{
			Receive: peer.BFD.Receive, Transmit: peer.BFD.Transmit, Multiplier: peer.BFD.Multiplier,
			Passive: peer.BFD.Passive, MinimumTTL: peer.BFD.MinimumTTL, Echo: peer.BFD.Echo, EchoMode: peer.BFD.EchoMode,
		},
		Multihop: (peer.MultiHop || peer.TTLSecurity > 1 || peer.Internal()) && !unnumbered,
	}
}
