package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// The defaults of a peer that its session has none for.
const (
	defaultRestart = time.Minute
	defaultDrain   = 5 * time.Second
)

// readBGP reads all that is about BGP into the Config, which has its Pools already.
func (c *Config) readBGP(objects Objects) []Problem {
	profiles, problems := readProfiles(objects.Profiles)
	aliases, found := readCommunities(objects.Communities)
	problems = append(problems, found...)
	for _, object := range sortedByName(objects.Peers, func(p v1beta1.BGPPeer) string { return p.Name }) {
		peer, found := readPeer(object, profiles)
		c.Peers = append(c.Peers, peer)
		problems = append(problems, found...)
	}
	problems = append(problems, twins(c.Peers)...)
	for _, object := range sortedByName(objects.BGP, func(a v1beta1.BGPAdvertisement) string { return a.Name }) {
		bgp, found := c.readAdvertisement(object, aliases)
		c.BGP = append(c.BGP, bgp)
		problems = append(problems, found...)
	}
	return problems
}

// readProfiles returns the profiles by name. One that cannot be used is left out.
func readProfiles(objects []v1beta1.BFDProfile) (map[string]*BFDProfile, []Problem) {
	profiles := map[string]*BFDProfile{}
	var problems []Problem
	for _, object := range objects {
		spec := object.Spec
		for _, interval := range []*int32{spec.ReceiveInterval, spec.TransmitInterval} {
			if interval != nil && (*interval < 50 || *interval > 60_000) {
				problems = append(problems, Problem{"bfdprofile/" + object.Name, v1beta1.ReasonSettingInvalid,
					fmt.Sprintf("an interval of %d ms is not between 50 and 60000: no path is watched by this profile", *interval)})
			}
		}
		profiles[object.Name] = &BFDProfile{
			Name:       object.Name,
			Receive:    milliseconds(spec.ReceiveInterval),
			Transmit:   milliseconds(spec.TransmitInterval),
			Multiplier: uint8(valueOf(spec.DetectMultiplier)),
			Passive:    valueOf(spec.PassiveMode),
			MinimumTTL: uint8(valueOf(spec.MinimumTTL)),
			Echo:       milliseconds(spec.EchoInterval),
			EchoMode:   valueOf(spec.EchoMode),
		}
	}
	for _, p := range problems {
		delete(profiles, p.Object[len("bfdprofile/"):])
	}
	return profiles, problems
}

func milliseconds(n *int32) time.Duration { return time.Duration(valueOf(n)) * time.Millisecond }

// valueOf returns what a pointer points to, the zero value if it is nil.
func valueOf[T any](p *T) T {
	var value T
	if p != nil {
		value = *p
	}
	return value
}

// readPeer reads one peer. A peer that cannot be used is Broken.
func readPeer(object v1beta1.BGPPeer, profiles map[string]*BFDProfile) (BGPPeer, []Problem) {
	spec := object.Spec
	name := "bgppeer/" + object.Name
	peer := BGPPeer{
		Name:        object.Name,
		Interface:   spec.Interface,
		FromGateway: spec.PeerFrom == v1beta1.PeerFromDefaultGateway,
		VRF:         spec.VRFName,
		Port:        uint16(spec.PeerPort),
		ListenPort:  uint16(spec.ListenPort),
		LocalASN:    spec.MyASN,
		PeerASN:     spec.PeerASN,
		Dynamic:     spec.DynamicASN,
		HoldTime:    duration(spec.HoldTime),
		Keepalive:   duration(spec.KeepaliveTime),
		ConnectTime: duration(spec.ConnectTime),
		Password:    spec.Password,
		Secret:      spec.PasswordSecret.Name,
		DrainTime:   orElse(spec.DrainTime, defaultDrain),
		MultiHop:    spec.EBGPMultiHop,
		TTLSecurity: uint8(spec.TTLSecurity),
		DualStack:   spec.DualStackAddressFamily,
	}
	if spec.LocalASN != 0 {
		peer.LocalASN = spec.LocalASN
	}
	if peer.HoldTime == 0 {
		peer.HoldTime = 3 * peer.Keepalive
	}
	if spec.EnableGracefulRestart {
		peer.GracefulRestart = orElse(spec.GracefulRestartTime, defaultRestart)
	}
	var problems []Problem
	peer.Nodes, problems = readSelectors(name, "nodeSelectors", spec.NodeSelectors)
	peer.readAddresses(spec)
	if peer.Broken != "" {
		problems = append(problems, Problem{name, v1beta1.ReasonSettingInvalid, peer.Broken})
	}
	if spec.BFDProfile != "" {
		peer.BFD = profiles[spec.BFDProfile]
		if peer.BFD == nil {
			problems = append(problems, Problem{name, v1beta1.ReasonBFDProfileNotFound,
				fmt.Sprintf("there is no usable BFDProfile %s: the sessions run, but a broken path is noticed late", spec.BFDProfile)})
		}
	}
	return peer, problems
}

func orElse(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

// readAddresses reads what the API server has validated; what it would have refused makes the peer Broken.
func (p *BGPPeer) readAddresses(spec v1beta1.BGPPeerSpec) {
	for _, field := range []struct {
		name, text string
		into       *netip.Addr
	}{
		{"peerAddress", spec.PeerAddress, &p.Address},
		{"sourceAddress", spec.SourceAddress, &p.Source},
		{"routerID", spec.RouterID, &p.RouterID},
	} {
		if field.text == "" {
			continue
		}
		addr, err := parseAddr(field.text)
		if err != nil {
			p.Broken = fmt.Sprintf("%s %q is not an address", field.name, field.text)
			return
		}
		*field.into = addr
	}
	if p.Address.IsLinkLocalUnicast() && p.Address.Is6() {
		p.Address = p.Address.WithZone(p.Interface)
	}
	switch {
	case p.RouterID.IsValid() && !p.RouterID.Is4():
		p.Broken = "routerID must be written as an IPv4 address"
	case !p.Address.IsValid() && p.Interface == "" && !p.FromGateway:
		p.Broken = "the peer is missing: write peerAddress, interface or peerFrom"
	case p.Dynamic == "" && p.PeerASN == 0:
		p.Broken = "the peer's AS number is missing: write peerASN or dynamicASN"
	}
}

// SameSession reports whether two peers on one node would be one session: a router keeps only one of them.
func (p BGPPeer) SameSession(o BGPPeer) bool {
	return p.Address == o.Address && p.Interface == o.Interface && p.FromGateway == o.FromGateway &&
		p.VRF == o.VRF && p.Port == o.Port && p.Source == o.Source
}

// twins finds peers that are one session on every node of one of them. Peers that only meet on some nodes are found there.
func twins(peers []BGPPeer) []Problem {
	var problems []Problem
	for i, peer := range peers {
		first := slices.IndexFunc(peers[:i], func(o BGPPeer) bool {
			return o.SameSession(peer) && (len(o.Nodes) == 0 || len(peer.Nodes) == 0)
		})
		if first >= 0 {
			problems = append(problems, Problem{"bgppeer/" + peer.Name, v1beta1.ReasonDuplicatePeer, duplicate(peers[first].Name)})
		}
	}
	return problems
}

// duplicate says that another peer has the session already.
func duplicate(other string) string {
	return fmt.Sprintf("BGPPeer %s, whose name comes first, is the same router: delete one of the two, or let their nodeSelectors select different nodes", other)
}

// TwinOf returns why a peer cannot have a session beside those before it on one node, "" if it can. Peers are given in
// the order of their names.
func TwinOf(peer BGPPeer, before []BGPPeer) string {
	for _, o := range before {
		if o.SameSession(peer) {
			return duplicate(o.Name)
		}
	}
	return ""
}

// readAdvertisement reads one advertisement. That it names what does not exist is a problem; the rest of it works.
func (c *Config) readAdvertisement(object v1beta1.BGPAdvertisement, aliases map[string]community) (BGP, []Problem) {
	name := "bgpadvertisement/" + object.Name
	spec := object.Spec
	bgp := BGP{
		Name:                object.Name,
		Pools:               spec.IPAddressPools,
		Peers:               slices.Compact(slices.Sorted(slices.Values(spec.Peers))),
		Kinds:               spec.ServiceAddresses,
		AggregationLength:   lengthOf(spec.AggregationLength, 32),
		AggregationLengthV6: lengthOf(spec.AggregationLengthV6, 128),
		LocalPref:           numberOf(spec.LocalPref),
		MED:                 numberOf(spec.MED),
		Prepend:             int(spec.ASPathPrepend),
	}
	if len(bgp.Kinds) == 0 {
		bgp.Kinds = []v1beta1.AddressKind{v1beta1.AddressLoadBalancer}
	}
	var problems, found []Problem
	bgp.PoolSelectors, problems = readSelectors(name, "ipAddressPoolSelectors", spec.IPAddressPoolSelectors)
	bgp.Nodes, found = readSelectors(name, "nodeSelectors", spec.NodeSelectors)
	problems = append(problems, found...)
	bgp.Services, found = readSelectors(name, "serviceSelectors", spec.ServiceSelectors)
	problems = append(problems, found...)
	bgp.Communities, bgp.Large, found = resolve(name, spec.Communities, aliases)
	problems = append(problems, found...)
	for _, pool := range spec.IPAddressPools {
		if c.PoolNamed(pool) < 0 {
			problems = append(problems, Problem{name, v1beta1.ReasonPoolNotFound, fmt.Sprintf("there is no IPAddressPool %s: write the name of one that exists, or make it", pool)})
		}
	}
	for _, peer := range bgp.Peers {
		if !slices.ContainsFunc(c.Peers, func(p BGPPeer) bool { return p.Name == peer }) {
			problems = append(problems, Problem{name, v1beta1.ReasonPeerNotFound, fmt.Sprintf("there is no BGPPeer %s: write the name of one that exists, or make it", peer)})
		}
	}
	return bgp, append(problems, c.tooWide(name, bgp)...)
}

func lengthOf(length *int32, longest int) int {
	if length == nil || *length < 1 || int(*length) > longest {
		return longest
	}
	return int(*length)
}

func numberOf(n *uint32) Number { return Number{valueOf(n), n != nil} }

// tooWide finds pools whose addresses cannot be aggregated as the advertisement says, because the prefix reaches beyond
// the pool and would attract the traffic of others.
func (c *Config) tooWide(object string, bgp BGP) []Problem {
	var problems []Problem
	for i := range c.Pools {
		pool := &c.Pools[i]
		if !bgp.selectsPool(pool) {
			continue
		}
		for _, r := range pool.ranges {
			bits := bgp.AggregationLength
			if r.From().Is6() {
				bits = bgp.AggregationLengthV6
			}
			wide := netip.PrefixFrom(r.From(), bits).Masked()
			if !pool.declares(wide) {
				problems = append(problems, Problem{object, v1beta1.ReasonAggregationRefused, fmt.Sprintf(
					"%s reaches beyond %s of pool %s and would attract traffic of others: those addresses are announced one by one; write a greater aggregation length, or ranges that fill the prefix", wide, r.text, pool.Name)})
				break
			}
		}
	}
	return problems
}
