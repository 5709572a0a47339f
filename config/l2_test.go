package config_test

import (
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

// advertisement makes an L2Advertisement from its spec in YAML.
func advertisement(t *testing.T, name, spec string) v1beta1.L2Advertisement {
	t.Helper()
	a := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &a.Spec); err != nil {
		t.Fatal(err)
	}
	return a
}

func pool(name string, set labels.Set, addresses ...v1beta1.AddressRange) v1beta1.IPAddressPool {
	return v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: addresses},
	}
}

func TestL2For(t *testing.T) {
	type specs map[string]string // one whose name begins with bgp is a BGPAdvertisement
	const lan, iot, nowhere, orphan = "192.168.10.7", "192.168.20.7", "10.9.9.9", "192.168.99.7"
	for _, test := range []struct {
		name string
		ads  specs
		addr string
		want config.L2Answer
	}{
		{"without advertisements, the subnet decides", nil, lan,
			config.L2Answer{Links: []string{"eth0"}, Reason: v1beta1.ReasonAnnounced}},
		{"no subnet holds the address", nil, nowhere,
			config.L2Answer{Reason: v1beta1.ReasonNoInterface}},
		{"the pool was deleted while a Service had the address", specs{"a": `ipAddressPools: [lan]`}, orphan,
			config.L2Answer{Links: []string{"wlan0"}, Reason: v1beta1.ReasonAnnounced}},
		{"an advertisement of another pool changes nothing", specs{"a": `ipAddressPools: [iot]`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Reason: v1beta1.ReasonAnnounced}},
		{"an advertisement without pools is about all", specs{"a": `interfaces: [wlan0]`}, iot,
			config.L2Answer{Links: []string{"wlan0"}, Advertisements: []string{"a"}, Reason: v1beta1.ReasonAnnounced}},
		{"pools are selected by label", specs{"a": `{ipAddressPoolSelectors: [{matchLabels: {zone: a}}], interfaces: [wlan0]}`}, lan,
			config.L2Answer{Links: []string{"wlan0"}, Advertisements: []string{"a"}, Reason: v1beta1.ReasonAnnounced}},
		{"several advertisements add up", specs{"a": `{ipAddressPools: [lan], interfaces: [wlan0]}`, "b": `ipAddressPools: [lan]`}, lan,
			config.L2Answer{Links: []string{"eth0", "wlan0"}, Advertisements: []string{"a", "b"}, Reason: v1beta1.ReasonAnnounced}},
		{"patterns of interfaces", specs{"a": `interfaces: ["w*"]`, "b": `interfaces: ["eth[0-3]"]`}, lan,
			config.L2Answer{Links: []string{"eth0", "wlan0"}, Advertisements: []string{"a", "b"}, Reason: v1beta1.ReasonAnnounced}},
		{"a pattern that matches none", specs{"a": `interfaces: ["eth?0"]`}, lan,
			config.L2Answer{Advertisements: []string{"a"}, Reason: v1beta1.ReasonNoInterface}},
		{"a pattern that is none", specs{"a": `interfaces: ["eth[0", eth0]`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Advertisements: []string{"a"}, Reason: v1beta1.ReasonAnnounced}},
		{"an interface that is not there", specs{"a": `interfaces: [eth9]`}, lan,
			config.L2Answer{Advertisements: []string{"a"}, Reason: v1beta1.ReasonNoInterface}},
		{"another node", specs{"a": `nodeSelectors: [{matchLabels: {rack: two}}]`}, lan,
			config.L2Answer{Reason: v1beta1.ReasonNodeNotSelected}},
		{"another Service", specs{"a": `serviceSelectors: [{matchLabels: {app: other}}]`}, lan,
			config.L2Answer{Reason: v1beta1.ReasonNoAdvertisement}},
		{"a selector nobody understands matches nothing", specs{"a": `nodeSelectors: [{matchExpressions: [{key: a, operator: Maybe}]}]`}, lan,
			config.L2Answer{Reason: v1beta1.ReasonNodeNotSelected}},
		{"weights add up, the most reluctant failback counts, Announce counts",
			specs{
				"a": `{preferredNodeSelectors: [{weight: 10, preference: {matchLabels: {rack: one}}}, {weight: 5, preference: {}}, {weight: 100, preference: {matchLabels: {rack: two}}}], failback: after, failbackAfter: 10m}`,
				"b": `{preferredNodeSelectors: [{weight: 1, preference: {}}], conflictPolicy: Announce, failback: after, failbackAfter: 5m}`,
			}, lan,
			config.L2Answer{
				Links: []string{"eth0"}, Advertisements: []string{"a", "b"}, Weight: 16, Reason: v1beta1.ReasonAnnounced,
				Failback: v1beta1.FailbackAfter, FailbackAfter: 10 * time.Minute, Conflict: v1beta1.ConflictAnnounce,
			}},
		{"never is more reluctant than after", specs{"a": `failback: never`, "b": `{failback: after, failbackAfter: 10m}`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Advertisements: []string{"a", "b"}, Failback: v1beta1.FailbackNever, Reason: v1beta1.ReasonAnnounced}},
		{"BGP alone has the pool", specs{"bgp": `ipAddressPools: [lan]`}, lan,
			config.L2Answer{Reason: v1beta1.ReasonAnnouncedByBGP}},
		{"BGP has all pools", specs{"bgp": `{}`}, iot,
			config.L2Answer{Reason: v1beta1.ReasonAnnouncedByBGP}},
		{"BGP and Layer 2 have the pool", specs{"bgp": `ipAddressPools: [lan]`, "a": `{}`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Advertisements: []string{"a"}, Reason: v1beta1.ReasonAnnounced}},
		{"BGP has another pool", specs{"bgp": `ipAddressPools: [iot]`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Reason: v1beta1.ReasonAnnounced}},
		{"BGP announces other addresses", specs{"bgp": `serviceAddresses: [ClusterIP]`}, lan,
			config.L2Answer{Links: []string{"eth0"}, Reason: v1beta1.ReasonAnnounced}},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := config.Objects{Pools: []v1beta1.IPAddressPool{
				pool("lan", labels.Set{"zone": "a"}, "192.168.10.0/24"), pool("iot", nil, "192.168.20.0/24"),
			}}
			for name, spec := range test.ads {
				if strings.HasPrefix(name, "bgp") {
					objects.BGP = append(objects.BGP, bgpAdvertisement(t, name, spec))
					continue
				}
				objects.L2 = append(objects.L2, advertisement(t, name, spec))
			}
			c, _ := config.Read(objects)
			got := c.L2For(config.L2Query{
				Addr: netip.MustParseAddr(test.addr), Service: labels.Set{"app": "web"}, Node: labels.Set{"rack": "one"},
				Links: []config.L2Link{
					{Name: "wlan0", Subnets: []netip.Prefix{netip.MustParsePrefix("192.168.99.0/24")}},
					{Name: "eth0", Subnets: []netip.Prefix{netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("192.168.10.0/24")}},
				},
			})
			if got.Message == "" {
				t.Error("there is no message")
			}
			got.Message = ""
			if test.want.Reason == v1beta1.ReasonAnnounced || len(test.want.Advertisements) > 0 || test.want.Reason == v1beta1.ReasonNoInterface {
				if test.want.Failback == "" {
					test.want.Failback = v1beta1.FailbackAuto
				}
				if test.want.Conflict == "" {
					test.want.Conflict = v1beta1.ConflictRefuse
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}
