package config_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// read makes a spec of YAML.
func read[T any](t *testing.T, text string) T {
	t.Helper()
	var spec T
	if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func bgpAdvertisement(t *testing.T, name, spec string) v1beta1.BGPAdvertisement {
	t.Helper()
	return v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: read[v1beta1.BGPAdvertisementSpec](t, spec)}
}

func bgpPeer(t *testing.T, name, spec string) v1beta1.BGPPeer {
	t.Helper()
	return v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: read[v1beta1.BGPPeerSpec](t, spec)}
}

func TestReadBGP(t *testing.T) {
	objects := config.Objects{
		Pools: []v1beta1.IPAddressPool{pool("few", nil, "10.0.0.5-10.0.0.20", "fd00::/64"), pool("full", nil, "10.0.1.0-10.0.1.255")},
		Peers: []v1beta1.BGPPeer{
			bgpPeer(t, "b", `{myASN: 64512, localASN: 64520, peerASN: 64513, peerAddress: 10.9.0.1, keepaliveTime: 5s, passwordSecret: {name: s}, bfdProfile: fast, enableGracefulRestart: true}`),
			bgpPeer(t, "a", `{myASN: 64512, dynamicASN: internal, peerAddress: "fe80::1", interface: eth0, drainTime: 0s, bfdProfile: wrong}`),
			bgpPeer(t, "c", `{myASN: 64512, peerASN: 64513, peerAddress: 10.9.0.1, nodeSelectors: [{matchLabels: {rack: a}}], bfdProfile: missing}`),
			bgpPeer(t, "d", `{myASN: 64512, peerASN: 64513, peerAddress: router}`),
		},
		BGP: []v1beta1.BGPAdvertisement{
			bgpAdvertisement(t, "wide", `{aggregationLength: 24, aggregationLengthV6: 64, ipAddressPools: [few, full, none], peers: [z, b], communities: [no-export, one, two, three, "65535:65281"], localPref: 0}`),
			bgpAdvertisement(t, "plain", `{}`),
		},
		Profiles: []v1beta1.BFDProfile{
			{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: read[v1beta1.BFDProfileSpec](t, `{receiveInterval: 100, minimumTtl: 250, passiveMode: true}`)},
			{ObjectMeta: metav1.ObjectMeta{Name: "wrong"}, Spec: read[v1beta1.BFDProfileSpec](t, `{transmitInterval: 20}`)},
		},
		Communities: []v1beta1.Community{
			{ObjectMeta: metav1.ObjectMeta{Name: "y"}, Spec: read[v1beta1.CommunitySpec](t, `communities: [{name: two, value: "2:2"}, {name: one, value: "9:9"}, {name: bad, value: "70000:1"}]`)},
			{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: read[v1beta1.CommunitySpec](t, `communities: [{name: one, value: "large:1:2:3"}, {name: two, value: "2:2"}]`)},
		},
	}
	c, problems := config.Read(objects)
	wantPeers := []config.BGPPeer{
		{Name: "a", Address: netip.MustParseAddr("fe80::1%eth0"), Interface: "eth0", LocalASN: 64512, Dynamic: "internal"},
		{
			Name: "b", Address: netip.MustParseAddr("10.9.0.1"), LocalASN: 64520, PeerASN: 64513, HoldTime: 15 * time.Second, Keepalive: 5 * time.Second,
			Secret: "s", GracefulRestart: time.Minute, DrainTime: 5 * time.Second,
			BFD: &config.BFDProfile{Name: "fast", Receive: 100 * time.Millisecond, Passive: true, MinimumTTL: 250},
		},
		{Name: "c", Address: netip.MustParseAddr("10.9.0.1"), LocalASN: 64512, PeerASN: 64513, DrainTime: 5 * time.Second},
		{Name: "d", LocalASN: 64512, PeerASN: 64513, DrainTime: 5 * time.Second, Broken: `peerAddress "router" is not an address`},
	}
	c.Peers[2].Nodes = nil // selectors have no useful difference
	addr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(wantPeers, c.Peers, addr); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	wantBGP := []config.BGP{
		{Name: "plain", Kinds: []v1beta1.AddressKind{"LoadBalancerIP"}, AggregationLength: 32, AggregationLengthV6: 128},
		{
			Name: "wide", Pools: []string{"few", "full", "none"}, Peers: []string{"b", "z"}, Kinds: []v1beta1.AddressKind{"LoadBalancerIP"},
			AggregationLength: 24, AggregationLengthV6: 64, LocalPref: config.Number{Set: true},
			Communities: []uint32{2<<16 | 2, 65535<<16 | 65281}, Large: []config.LargeCommunity{{Global: 1, Data1: 2, Data2: 3}},
		},
	}
	if diff := cmp.Diff(wantBGP, c.BGP); diff != "" {
		t.Errorf("advertisements (-want +got):\n%s", diff)
	}
	wantProblems := []string{
		"bfdprofile/wrong: an interval of 20 ms is not between 50 and 60000: no path is watched by this profile",
		"bgpadvertisement/wide: 10.0.0.0/24 reaches beyond 10.0.0.5-10.0.0.20 of pool few and would attract traffic of others: those addresses are announced one by one; write a greater aggregation length, or ranges that fill the prefix",
		`bgpadvertisement/wide: no Community object gives a community the name "three", and it is not a well-known one: routes are announced without it`,
		"bgpadvertisement/wide: there is no BGPPeer z: write the name of one that exists, or make it",
		"bgpadvertisement/wide: there is no IPAddressPool none: write the name of one that exists, or make it",
		"bgppeer/a: there is no usable BFDProfile wrong: the sessions run, but a broken path is noticed late",
		"bgppeer/c: there is no usable BFDProfile missing: the sessions run, but a broken path is noticed late",
		"bgppeer/c: BGPPeer b, whose name comes first, is the same router: delete one of the two, or let their nodeSelectors select different nodes",
		`bgppeer/d: peerAddress "router" is not an address`,
		"community/y: one is another community in Community x, whose name comes first: rename one of the two",
		`community/y: bad: "70000:1" is not a community: write two numbers such as 64512:100, or large: and three numbers such as large:64512:1:2`,
	}
	if diff := cmp.Diff(wantProblems, texts(problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if c.Peers[1].Internal() || !c.Peers[0].Internal() {
		t.Error("a is internal, b is not")
	}
}

func TestBGPFor(t *testing.T) {
	c, _ := config.Read(config.Objects{
		Pools: []v1beta1.IPAddressPool{pool("lan", labels.Set{"zone": "a"}, "10.0.0.0/24"), pool("dmz", nil, "10.0.1.0/24")},
		BGP: []v1beta1.BGPAdvertisement{
			bgpAdvertisement(t, "by-label", `ipAddressPoolSelectors: [{matchLabels: {zone: a}}]`),
			bgpAdvertisement(t, "for-web", `{ipAddressPools: [lan, dmz], serviceSelectors: [{matchLabels: {app: web}}], nodeSelectors: [{matchLabels: {rack: a}}]}`),
			bgpAdvertisement(t, "inside", `serviceAddresses: [ClusterIP, ExternalIP]`),
		},
	})
	for _, test := range []struct {
		name, addr string
		kind       v1beta1.AddressKind
		app, rack  string
		want       []string
		reason     string
	}{
		{"all that select it", "10.0.0.7", "LoadBalancerIP", "web", "a", []string{"by-label", "for-web"}, v1beta1.ReasonAnnounced},
		{"those of the node", "10.0.0.7", "LoadBalancerIP", "web", "b", []string{"by-label"}, v1beta1.ReasonAnnounced},
		{"those of the Service", "10.0.0.7", "LoadBalancerIP", "db", "a", []string{"by-label"}, v1beta1.ReasonAnnounced},
		{"another node", "10.0.1.7", "LoadBalancerIP", "web", "b", nil, v1beta1.ReasonNodeNotSelected},
		{"another Service", "10.0.1.7", "LoadBalancerIP", "db", "b", nil, v1beta1.ReasonNoAdvertisement},
		{"of no pool", "10.0.9.7", "LoadBalancerIP", "web", "a", nil, ""},
		{"another kind", "10.96.0.1", "ClusterIP", "", "", []string{"inside"}, v1beta1.ReasonAnnounced},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := c.BGPFor(config.BGPQuery{
				Addr: netip.MustParseAddr(test.addr), Kind: test.kind, Service: labels.Set{"app": test.app}, Node: labels.Set{"rack": test.rack},
			})
			var got []string
			for _, a := range answer.Advertisements {
				got = append(got, a.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || answer.Reason != test.reason {
				t.Errorf("advertisements (-want +got):\n%s, reason %q", diff, answer.Reason)
			}
			if (answer.Message != "") != (test.reason == v1beta1.ReasonNodeNotSelected || test.reason == v1beta1.ReasonNoAdvertisement) {
				t.Errorf("the message is %q", answer.Message)
			}
		})
	}
}

// FuzzCommunities asserts that what the rules of the API server let pass is understood, and that nothing else is.
func FuzzCommunities(f *testing.F) {
	for _, text := range []string{"65535:65282", "0:0", "large:4294967295:0:1", "no-export", "NO_ADVERTISE", "a:b", "1:2:3", "large:1:2", "65536:1", ":", "", "large::1:2", "1:+2", "large:large:1:2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a := v1beta1.BGPAdvertisement{Spec: v1beta1.BGPAdvertisementSpec{Communities: []v1beta1.CommunityText{v1beta1.CommunityText(text)}}}
		c, problems := config.Read(config.Objects{BGP: []v1beta1.BGPAdvertisement{a}})
		found := len(c.BGP[0].Communities) + len(c.BGP[0].Large)
		if found+len(problems) != 1 {
			t.Fatalf("%q is %d communities and %d problems", text, found, len(problems))
		}
		if len(c.BGP[0].Communities) == 1 && strings.Contains(text, ":") {
			value := c.BGP[0].Communities[0]
			var high, low uint32
			if n, err := fmt.Sscanf(text, "%d:%d", &high, &low); n != 2 || err != nil || value != high<<16|low || high > 65535 || low > 65535 {
				t.Fatalf("%q is read as %d:%d", text, value>>16, value&0xffff)
			}
		}
	})
}
