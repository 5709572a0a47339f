package config_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/config"
)

// readCRDs returns the embedded definitions by kind.
func readCRDs(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	files, err := fs.Glob(config.CRDs, "crd/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	crds := map[string]*apiextensions.CustomResourceDefinition{}
	for _, file := range files {
		data, err := config.CRDs.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var external apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &external); err != nil {
			t.Fatalf("parse %s: %v", file, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
		external.Status.StoredVersions = []string{"v1beta1"} // as the API server's strategy does on create
		crd := &apiextensions.CustomResourceDefinition{}
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, crd, nil); err != nil {
			t.Fatalf("convert %s: %v", file, err)
		}
		crds[crd.Spec.Names.Kind] = crd
	}
	return crds
}

// TestDefinitions does what an API server does before it accepts a definition, the estimate of what its rules cost
// included.
func TestDefinitions(t *testing.T) {
	for kind, crd := range readCRDs(t) {
		if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), crd); len(errs) > 0 {
			t.Errorf("%s is not a valid definition: %v", kind, errs.ToAggregate())
		}
		if crd.Spec.Scope != apiextensions.ClusterScoped {
			t.Errorf("%s is %s, want cluster-scoped", kind, crd.Spec.Scope)
		}
		if diff := cmp.Diff([]string{"fairlead"}, crd.Spec.Names.Categories); diff != "" {
			t.Errorf("categories of %s (-want +got):\n%s", kind, diff)
		}
	}
}

// admit does to an object what the API server does: defaults, OpenAPI validation, CEL rules. It returns what it would
// answer, one line per mistake.
func admit(t *testing.T, crd *apiextensions.CustomResourceDefinition, object map[string]any) []string {
	t.Helper()
	validator := crd.Spec.Validation.OpenAPIV3Schema // one version: conversion moved the schema to the top
	structural, err := schema.NewStructural(validator)
	if err != nil {
		t.Fatal(err)
	}
	defaulting.Default(object, structural)
	openapi, _, err := validation.NewSchemaValidator(validator)
	if err != nil {
		t.Fatal(err)
	}
	errs := validation.ValidateCustomResource(nil, object, openapi)
	if len(errs) == 0 {
		rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
		errs, _ = rules.Validate(context.Background(), nil, structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	var lines []string
	for _, err := range errs {
		lines = append(lines, fmt.Sprintf("%s: %s", err.Field, err.Detail))
	}
	return lines
}

// decode reads YAML as the API server does: whole numbers are integers.
func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestRules(t *testing.T) {
	crds := readCRDs(t)
	pool, l2 := "IPAddressPool", "L2Advertisement"
	peer, bgp, bfd, names := "BGPPeer", "BGPAdvertisement", "BFDProfile", "Community"
	const (
		howRange     = "is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20"
		howASN       = "either peerASN or dynamicASN must be set, not both: write the peer's AS number in peerASN, or dynamicASN: external to accept any number but our own"
		howMultiHop  = "ebgpMultiHop is for peers of another AS: an internal peer may be any number of hops away, remove ebgpMultiHop"
		howCommunity = "is not a community: write two numbers such as 64512:100, large: and three numbers such as large:64512:1:2, or a name"
		howInterval  = "an interval below 50 ms takes a busy node for a broken path: write at least 50; 100 with a detectMultiplier of 3 notices a failure in 0.3 s"
		howDuration  = "is not a length of time: write a number and a unit, such as 0s, 10m or 1h30m"
	)
	for _, test := range []struct {
		name, kind, spec string
		want             []string
	}{
		{"a CIDR", pool, `addresses: [192.168.10.0/24]`, nil},
		{"a CIDR of IPv6", pool, `addresses: ["fc00:f853:0ccd:e799::/124"]`, nil},
		{"a range", pool, `addresses: [192.168.9.1-192.168.9.5]`, nil},
		{"a range with blanks", pool, `addresses: [192.168.9.1 - 192.168.9.5]`, nil},
		{"a range of IPv6", pool, `addresses: ["fd30::200-fd30::250"]`, nil},
		{"one address", pool, `addresses: [192.168.9.1, 'fd00::1']`, nil},
		{"everything", pool, `
addresses: [192.168.10.0/24, "fd30::/120"]
exclude: [192.168.10.0/28, 192.168.10.254]
autoAssign: false
avoidBuggyIPs: true
serviceAllocation:
  priority: 50
  namespaces: [a, b]
  namespaceSelectors: [{matchLabels: {foo: bar}}]
  serviceSelectors: [{matchExpressions: [{key: app, operator: In, values: [bar]}]}]
reservations: [{address: 192.168.10.7, namespace: default, name: dns}, {address: "fd30::7", namespace: default, name: dns}]
cooldown: 1h30m`, nil},
		{"no addresses", pool, `autoAssign: true`, []string{`spec.addresses: `}},
		{"empty addresses", pool, `addresses: []`, []string{`spec.addresses: spec.addresses in body should have at least 1 items`}},
		{"nonsense", pool, `addresses: [lan]`, []string{`spec.addresses[0]: "lan" ` + howRange}},
		{"MetalLB's short range", pool, `addresses: [192.168.1.240-250]`, []string{`spec.addresses[0]: "192.168.1.240-250" ` + howRange}},
		{"a range with three ends", pool, `addresses: [10.0.0.1-10.0.0.2-10.0.0.3]`, []string{`spec.addresses[0]: "10.0.0.1-10.0.0.2-10.0.0.3" ` + howRange}},
		{"a prefix too long", pool, `addresses: [10.0.0.0/33]`, []string{`spec.addresses[0]: "10.0.0.0/33" ` + howRange}},
		{"leading zeros", pool, `addresses: [192.168.001.0/24]`, []string{`spec.addresses[0]: "192.168.001.0/24" ` + howRange}},
		{"IPv4 dressed as IPv6", pool, `addresses: ["::ffff:10.0.0.1"]`, []string{`spec.addresses[0]: "::ffff:10.0.0.1" ` + howRange}},
		{"host bits", pool, `addresses: [192.168.1.10/24]`, []string{
			`spec.addresses[0]: "192.168.1.10/24" has bits set after its prefix: write 192.168.1.10 for the one address, or the first address of the network before /24 for the whole network`}},
		{"mixed families", pool, `addresses: ["192.168.1.10-fd00::1"]`, []string{
			`spec.addresses[0]: "192.168.1.10-fd00::1" begins in one address family and ends in the other: write two ranges, one of IPv4 and one of IPv6`}},
		{"nonsense excluded", pool, `{addresses: [10.0.0.0/24], exclude: [gateway]}`, []string{`spec.exclude[0]: "gateway" ` + howRange}},
		{"a range reserved", pool, `{addresses: [10.0.0.0/24], reservations: [{address: 10.0.0.0/30, namespace: a, name: b}]}`, []string{
			`spec.reservations[0].address: "10.0.0.0/30" is not one address: write an address of this pool, such as 192.168.10.7`}},
		{"reserved for nobody", pool, `{addresses: [10.0.0.0/24], reservations: [{address: 10.0.0.1, namespace: a}]}`, []string{
			`spec.reservations[0].name: `}},
		{"a cooldown without unit", pool, `{addresses: [10.0.0.0/24], cooldown: "10"}`, []string{`spec.cooldown: "10" ` + howDuration}},
		{"a negative cooldown", pool, `{addresses: [10.0.0.0/24], cooldown: "-5s"}`, []string{`spec.cooldown: "-5s" ` + howDuration}},
		{"a negative priority", pool, `{addresses: [10.0.0.0/24], serviceAllocation: {priority: -1}}`, []string{
			`spec.serviceAllocation.priority: spec.serviceAllocation.priority in body should be greater than or equal to 0`}},

		{"everything by default", l2, `{}`, nil},
		{"all of an advertisement", l2, `
ipAddressPools: [first-pool]
ipAddressPoolSelectors: [{matchLabels: {zone: a}}]
nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}]
interfaces: [eth0, br-lan]
serviceSelectors: [{matchLabels: {app: web}}]
preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {rack: one}}}]
failback: after
failbackAfter: 10m
conflictPolicy: Announce`, nil},
		{"an unknown failback", l2, `failback: sometimes`, []string{
			`spec.failback: supported values: "auto", "never", "after"`}},
		{"after what", l2, `failback: after`, []string{
			`spec: failback is "after" but failbackAfter is missing: write for how long the preferred node must have been back, such as failbackAfter: 10m`}},
		{"after without after", l2, `failbackAfter: 10m`, []string{
			`spec: failbackAfter has no effect unless failback is "after": write failback: after, or remove failbackAfter`}},
		{"no weight", l2, `preferredNodeSelectors: [{weight: 0, preference: {}}]`, []string{
			`spec.preferredNodeSelectors[0].weight: spec.preferredNodeSelectors[0].weight in body should be greater than or equal to 1`}},
		{"an interface name no kernel takes", l2, `interfaces: [averyverylongname]`, []string{
			`spec.interfaces: the name of an interface has at most 15 characters, unless it is a pattern with * or ? or [...]`}},
		{"patterns of interfaces", l2, `interfaces: [eth0, "eth*", "[a-p]vlan[0-9][0-9][0-9]", "bond?", 'a\*b']`, nil},

		{"a peer", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1}`, nil},
		{"everything of a peer", peer, `
myASN: 4200000001
localASN: 4294967295
peerASN: 4200000002
peerAddress: "fe80::1"
interface: eth0
peerPort: 65535
listenPort: 179
sourceAddress: "fd00::1"
holdTime: 9m0s
keepaliveTime: 0s
connectTime: 120s
routerID: 10.10.10.10
nodeSelectors: [{matchLabels: {rack: a}}]
passwordSecret: {name: bgp, namespace: metallb-system}
bfdProfile: fast
enableGracefulRestart: true
gracefulRestartTime: 120s
drainTime: 1m30s
ebgpMultiHop: true
vrf: red
disableMP: false
dualStackAddressFamily: true`, nil},
		{"unnumbered", peer, `{myASN: 64512, dynamicASN: external, interface: eth0, ttlSecurity: 1, password: secret, passwordSecret: {}}`, nil},
		{"the gateway", peer, `{myASN: 64512, dynamicASN: internal, peerFrom: DefaultGateway}`, nil},
		{"no AS number of ours", peer, `{peerASN: 64513, peerAddress: 172.30.0.1}`, []string{"spec.myASN: "}},
		{"an AS number too large", peer, `{myASN: 64512, peerASN: 4294967296, peerAddress: 172.30.0.1}`, []string{
			`spec.peerASN: spec.peerASN in body should be less than or equal to 4294967295`}},
		{"no AS number of the peer", peer, `{myASN: 64512, peerASN: 0, peerAddress: 172.30.0.1}`, []string{"spec: " + howASN}},
		{"both AS numbers", peer, `{myASN: 64512, peerASN: 64513, dynamicASN: external, peerAddress: 172.30.0.1}`, []string{"spec: " + howASN}},
		{"a dynamic AS of no kind", peer, `{myASN: 64512, dynamicASN: any, peerAddress: 172.30.0.1}`, []string{
			`spec.dynamicASN: supported values: "internal", "external"`}},
		{"no peer", peer, `{myASN: 64512, peerASN: 64513}`, []string{
			`spec: the peer is missing: write its address in peerAddress, the interface it is on in interface (unnumbered), or peerFrom: DefaultGateway`}},
		{"a peer twice", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, peerFrom: DefaultGateway}`, []string{
			`spec: peerFrom finds the peer by itself: remove peerAddress and interface, or remove peerFrom`}},
		{"a name", peer, `{myASN: 64512, peerASN: 64513, peerAddress: router.lan}`, []string{
			`spec.peerAddress: "router.lan" is not an address: write the address of the router, such as 192.168.1.1 or fd00::1`}},
		{"a link-local peer somewhere", peer, `{myASN: 64512, peerASN: 64513, peerAddress: "fe80::1"}`, []string{
			`spec: peerAddress is a link-local address, which every interface has: write in interface where the peer is`}},
		{"families that do not meet", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, sourceAddress: "fd00::1"}`, []string{
			`spec: sourceAddress and peerAddress are of different families: write two addresses of one family`}},
		{"a router ID of IPv6", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, routerID: "fd00::1"}`, []string{
			`spec.routerID: "fd00::1" is not a router ID: write it as an IPv4 address, such as 10.0.0.1`}},
		{"two passwords", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, password: a, passwordSecret: {name: b}}`, []string{
			`spec: password and passwordSecret are both set: keep passwordSecret and remove password`}},
		{"an internal peer far away", peer, `{myASN: 64512, peerASN: 64512, peerAddress: 172.30.0.1, ebgpMultiHop: true}`, []string{"spec: " + howMultiHop}},
		{"an internal peer by localASN", peer, `{myASN: 64512, localASN: 64513, peerASN: 64513, peerAddress: 172.30.0.1, ebgpMultiHop: true}`, []string{"spec: " + howMultiHop}},
		{"an external peer by localASN", peer, `{myASN: 64512, localASN: 64513, peerASN: 64512, peerAddress: 172.30.0.1, ebgpMultiHop: true}`, nil},
		{"an unnumbered peer far away", peer, `{myASN: 64512, peerASN: 64513, interface: eth0, ebgpMultiHop: true}`, []string{
			`spec: ebgpMultiHop needs peerAddress: an unnumbered peer is always on the link`}},
		{"two kinds of hops", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, ebgpMultiHop: true, ttlSecurity: 2}`, []string{
			`spec: ttlSecurity and ebgpMultiHop exclude each other: write in ttlSecurity how many hops away the peer is, and remove ebgpMultiHop`}},
		{"a short hold time", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, holdTime: 2s}`, []string{
			`spec.holdTime: a hold time of 2s is not possible: write 3s to 65535s; for detection below 3 s use a bfdProfile`}},
		{"no hold time", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, holdTime: 0s}`, []string{
			`spec.holdTime: a hold time of 0s is not possible: write 3s to 65535s; for detection below 3 s use a bfdProfile`}},
		{"half a second", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, holdTime: 3500ms}`, []string{
			`spec.holdTime: BGP counts in seconds: write 3500ms without a fraction of one`}},
		{"a hold time without unit", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, holdTime: "90"}`, []string{
			`spec.holdTime: "90" is not a length of time: write a number and a unit, such as 9s or 90s`}},
		{"keepalives too rare", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, holdTime: 9s, keepaliveTime: 9s}`, []string{
			`spec: keepaliveTime must be shorter than holdTime: a third of it is usual, such as holdTime: 9s and keepaliveTime: 3s`}},
		{"connecting all the time", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, connectTime: 0s}`, []string{
			`spec.connectTime: a connect time of 0s is not possible: write 1s to 65535s`}},
		{"a restart without restart", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, gracefulRestartTime: 60s}`, []string{
			`spec: gracefulRestartTime has no effect without enableGracefulRestart: true: add it, or remove gracefulRestartTime`}},
		{"a long restart", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, enableGracefulRestart: true, gracefulRestartTime: 2h}`, []string{
			`spec.gracefulRestartTime: a restart time of 2h is not possible: write 1s to 4095s`}},
		{"a long drain", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, drainTime: 2h}`, []string{
			`spec.drainTime: a drain time of 2h is too long: write at most 1h`}},
		{"a port too large", peer, `{myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, peerPort: 65536}`, []string{
			`spec.peerPort: spec.peerPort in body should be less than or equal to 65535`}},

		{"everything by default", bgp, `{}`, nil},
		{"all of an advertisement", bgp, `
aggregationLength: 24
aggregationLengthV6: 64
localPref: 4294967295
med: 0
asPathPrepend: 16
communities: ["65535:65282", "large:4294967295:0:1", no-export, NO_ADVERTISE, vpn-only]
ipAddressPools: [lan]
ipAddressPoolSelectors: [{matchLabels: {zone: a}}]
nodeSelectors: [{matchLabels: {rack: a}}]
peers: [tor]
serviceSelectors: [{matchLabels: {app: web}}]
serviceAddresses: [LoadBalancerIP, ClusterIP, ExternalIP]`, nil},
		{"a prefix too long", bgp, `aggregationLength: 33`, []string{`spec.aggregationLength: spec.aggregationLength in body should be less than or equal to 32`}},
		{"no prefix", bgp, `aggregationLengthV6: 0`, []string{`spec.aggregationLengthV6: spec.aggregationLengthV6 in body should be greater than or equal to 1`}},
		{"a community of one number", bgp, `communities: ["64512:"]`, []string{`spec.communities[0]: "64512:" ` + howCommunity}},
		{"a community of three numbers", bgp, `communities: ["1:2:3"]`, []string{`spec.communities[0]: "1:2:3" ` + howCommunity}},
		{"a large community of two", bgp, `communities: ["large:1:2"]`, []string{`spec.communities[0]: "large:1:2" ` + howCommunity}},
		{"a community too large", bgp, `communities: ["65536:1"]`, []string{
			`spec.communities[0]: "65536:1" is not a community: each of its numbers is at most 65535; larger ones need large: and three numbers, such as large:4200000001:1:2`}},
		{"a large community too large", bgp, `communities: ["large:4294967296:1:1"]`, []string{
			`spec.communities[0]: "large:4294967296:1:1" is not a large community: each of its numbers is at most 4294967295`}},
		{"addresses of no kind", bgp, `serviceAddresses: [PodIP]`, []string{`spec.serviceAddresses[0]: supported values: "LoadBalancerIP", "ClusterIP", "ExternalIP"`}},
		{"no addresses", bgp, `serviceAddresses: []`, []string{`spec.serviceAddresses: spec.serviceAddresses in body should have at least 1 items`}},
		{"a negative preference", bgp, `localPref: -1`, []string{`spec.localPref: spec.localPref in body should be greater than or equal to 0`}},
		{"much prepending", bgp, `asPathPrepend: 17`, []string{`spec.asPathPrepend: spec.asPathPrepend in body should be less than or equal to 16`}},

		{"everything by default", bfd, `{}`, nil},
		{"all of a profile", bfd, `{receiveInterval: 50, transmitInterval: 60000, detectMultiplier: 255, echoInterval: 10, echoMode: true, passiveMode: true, minimumTtl: 1}`, nil},
		{"a hectic profile", bfd, `{receiveInterval: 49, transmitInterval: 50}`, []string{"spec.receiveInterval: " + howInterval}},
		{"a lazy profile", bfd, `{transmitInterval: 60001}`, []string{`spec.transmitInterval: spec.transmitInterval in body should be less than or equal to 60000`}},
		{"a nervous profile", bfd, `{detectMultiplier: 1}`, []string{`spec.detectMultiplier: spec.detectMultiplier in body should be greater than or equal to 2`}},

		{"names", names, `communities: [{name: vpn-only, value: "1234:1"}, {name: NO_ADVERTISE, value: "large:1:2:3"}]`, nil},
		{"a name for a name", names, `communities: [{name: a, value: no-export}]`, []string{
			`spec.communities[0].value: "no-export" is not a community: write two numbers such as 64512:100, or large: and three numbers such as large:64512:1:2`}},
		{"a community for a name", names, `communities: [{name: "1:1", value: "1:2"}]`, []string{
			`spec.communities[0].name: "1:1" cannot be a name: only communities themselves have a colon`}},
	} {
		t.Run(test.kind+"/"+test.name, func(t *testing.T) {
			spec := decode(t, []byte(test.spec))
			object := map[string]any{
				"apiVersion": "fairlead.dev/v1beta1", "kind": test.kind,
				"metadata": map[string]any{"name": "lan"}, "spec": spec,
			}
			got := admit(t, crds[test.kind], object)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPending asserts that an object nobody has looked at says so.
func TestPending(t *testing.T) {
	for kind, crd := range readCRDs(t) {
		object := map[string]any{"kind": kind, "spec": map[string]any{"addresses": []any{"10.0.0.0/24"}}}
		admit(t, crd, object)
		data, err := yaml.Marshal(object["status"])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"type: Ready", "status: Unknown", "reason: Pending", "message: waiting for the "} {
			if !strings.Contains(string(data), want) {
				t.Errorf("status of a new %s lacks %q:\n%s", kind, want, data)
			}
		}
	}
}
