package config_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/config"
)

func service(t *testing.T, text string) *corev1.Service {
	t.Helper()
	s := &corev1.Service{}
	if err := yaml.UnmarshalStrict([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadService(t *testing.T) {
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	addr := netip.MustParseAddr
	for _, test := range []struct {
		name, text string
		want       config.Wish
		problems   []string
	}{
		{"a plain Service", `
metadata: {namespace: default, name: web}
spec: {type: LoadBalancer, ipFamilies: [IPv4], ports: [{port: 80}, {port: 53, protocol: UDP}]}`,
			config.Wish{Service: name, Families: []config.Family{config.IPv4}, Sharing: config.Sharing{
				Ports: []config.Port{{Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 53}}}}, nil},
		{"everything", `
metadata:
  namespace: default
  name: web
  labels: {app: web}
  annotations:
    fairlead.dev/loadBalancerIPs: "fd00::7, 10.0.0.7,10.0.0.7"
    fairlead.dev/address-pool: lan, dmz
    fairlead.dev/allow-shared-ip: key
    fairlead.dev/allow-shared-ip-namespaces: b,a
    fairlead.dev/ip-allocated-from-pool: lan
    fairlead.dev/take-over: "true"
spec:
  type: LoadBalancer
  ipFamilies: [IPv6, IPv4]
  ipFamilyPolicy: RequireDualStack
  externalTrafficPolicy: Local
  selector: {b: c, a: b}
  loadBalancerIP: 10.0.0.7
status: {loadBalancer: {ingress: [{ip: 10.0.0.7}, {hostname: example.com}]}}`,
			config.Wish{
				Service: name, Labels: map[string]string{"app": "web"}, Families: []config.Family{config.IPv6, config.IPv4}, Need: config.NeedAll,
				Addresses: []netip.Addr{addr("10.0.0.7"), addr("fd00::7")}, Pools: []string{"lan", "dmz"},
				Sharing: config.Sharing{Key: "key", Namespaces: []string{"a", "b"}, Local: true, Selector: "a=b,b=c"},
				Held:    []netip.Addr{addr("10.0.0.7")}, From: []string{"lan"}, TakeOver: true,
			}, nil},
		{"our prefix comes before the others", `
metadata:
  namespace: default
  name: web
  annotations: {metallb.universe.tf/address-pool: three, metallb.io/address-pool: two, fairlead.dev/address-pool: one, metallb.io/allow-shared-ip: two, metallb.universe.tf/allow-shared-ip: three}
spec: {type: LoadBalancer, ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack}`,
			config.Wish{Service: name, Families: []config.Family{config.IPv4, config.IPv6}, Need: config.NeedAny, Pools: []string{"one"},
				Sharing: config.Sharing{Key: "two"}}, nil},
		{"spec.loadBalancerIP alone", `
metadata: {namespace: default, name: web}
spec: {type: LoadBalancer, loadBalancerIP: 10.0.0.9}`,
			config.Wish{Service: name, Families: []config.Family{config.IPv4}, Addresses: []netip.Addr{addr("10.0.0.9")}}, nil},
		{"nonsense", `
metadata: {namespace: default, name: web, annotations: {metallb.io/loadBalancerIPs: "10.0.0.07,fd00::1"}}
spec: {type: LoadBalancer, ipFamilies: [IPv4], loadBalancerIP: 10.0.0.9}`,
			config.Wish{Service: name, Families: []config.Family{config.IPv4}, Addresses: []netip.Addr{addr("fd00::1")}},
			[]string{
				`service/default/web: loadBalancerIPs asks for "10.0.0.07", which is not an address: write addresses with commas between them, such as 192.168.10.7,fd00::7`,
				`service/default/web: loadBalancerIPs and spec.loadBalancerIP ask for different addresses: remove spec.loadBalancerIP`,
				`service/default/web: it asks for fd00::1 but its ipFamilies have no IPv6: ask for an address of a family it has, or set ipFamilyPolicy`,
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, problems := config.ReadService(service(t, test.text))
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreTypes(time.Time{})); diff != "" {
				t.Errorf("wish (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, texts(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOurs(t *testing.T) {
	const class = "example.com/fairlead"
	for _, test := range []struct {
		spec, class string
		want        bool
	}{
		{`{type: LoadBalancer}`, "", true},
		{`{type: LoadBalancer}`, class, false},
		{`{type: LoadBalancer, loadBalancerClass: example.com/fairlead}`, class, true},
		{`{type: LoadBalancer, loadBalancerClass: example.com/other}`, class, false},
		{`{type: LoadBalancer, loadBalancerClass: example.com/other}`, "", false},
		{`{type: ClusterIP}`, "", false},
	} {
		if got := config.Ours(service(t, "spec: "+test.spec), test.class); got != test.want {
			t.Errorf("%s with class %q is ours: %t", test.spec, test.class, got)
		}
	}
}

// TestAddresses asserts that only addresses Fairlead gave are announced.
func TestAddresses(t *testing.T) {
	const ingress = `loadBalancer: {ingress: [{ip: fd00::7}, {ip: 10.0.0.7}]}`
	for _, test := range []struct {
		name, text string
		want       []netip.Addr
	}{
		{"ours", `{spec: {type: LoadBalancer}, status: {` + ingress + `, conditions: [{type: fairlead.dev/Allocated, reason: AddressAllocated}]}}`,
			[]netip.Addr{netip.MustParseAddr("fd00::7"), netip.MustParseAddr("10.0.0.7")}},
		{"nobody said so", `{spec: {type: LoadBalancer}, status: {` + ingress + `}}`, nil},
		{"another's", `{spec: {type: LoadBalancer}, status: {` + ingress + `, conditions: [{type: fairlead.dev/Allocated, reason: StatusOwnedByOther}]}}`, nil},
		{"no longer a load balancer", `{spec: {type: ClusterIP}, status: {` + ingress + `, conditions: [{type: fairlead.dev/Allocated, reason: AddressAllocated}]}}`, nil},
	} {
		got := config.Addresses(service(t, test.text))
		if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
