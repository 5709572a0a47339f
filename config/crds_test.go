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

func TestRules(t *testing.T) {
	crds := readCRDs(t)
	pool, l2 := "IPAddressPool", "L2Advertisement"
	const (
		howRange    = "is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20"
		howDuration = "is not a length of time: write a number and a unit, such as 0s, 10m or 1h30m"
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
	} {
		t.Run(test.kind+"/"+test.name, func(t *testing.T) {
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(test.spec), &spec); err != nil {
				t.Fatal(err)
			}
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
