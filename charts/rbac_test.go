package charts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// The whole of what Fairlead may do in a cluster, as "[API group/]resource[/name]: verbs".
var wantRules = map[string][]string{
	"ClusterRole/fairlead-controller": {
		"events.k8s.io/events: create patch",
		"fairlead.dev/bfdprofiles/status: patch update",
		"fairlead.dev/bfdprofiles: get list watch",
		"fairlead.dev/bgpadvertisements/status: patch update",
		"fairlead.dev/bgpadvertisements: get list watch",
		"fairlead.dev/bgppeers/status: patch update",
		"fairlead.dev/bgppeers: get list watch",
		"fairlead.dev/communities/status: patch update",
		"fairlead.dev/communities: get list watch",
		"fairlead.dev/ipaddresspools/status: patch update",
		"fairlead.dev/ipaddresspools: get list patch watch",
		"fairlead.dev/l2advertisements/status: patch update",
		"fairlead.dev/l2advertisements: get list watch",
		"fairlead.dev/speakers: get list watch",
		"namespaces: get list watch",
		"networking.k8s.io/servicecidrs: get list watch",
		"nodes: get list watch",
		"services/status: patch update",
		"services: get list watch",
	},
	"Role/fairlead-system/fairlead-controller": {
		"coordination.k8s.io/leases: create get update",
		"events: create patch",
		"secrets: create",
		"secrets[fairlead-gossip]: get",
	},
	"ClusterRole/fairlead-speaker": {
		"discovery.k8s.io/endpointslices: get list watch",
		"events.k8s.io/events: create patch",
		"fairlead.dev/bfdprofiles: get list watch",
		"fairlead.dev/bgpadvertisements: get list watch",
		"fairlead.dev/bgppeers: get list watch",
		"fairlead.dev/communities: get list watch",
		"fairlead.dev/ipaddresspools: get list watch",
		"fairlead.dev/l2advertisements: get list watch",
		"fairlead.dev/speakers/status: patch update",
		"fairlead.dev/speakers: create get list watch",
		"networking.k8s.io/servicecidrs: get list watch",
		"nodes: get list watch",
		"services: get list watch",
	},
	"Role/fairlead-system/fairlead-speaker": {
		"pods: list watch",
		"secrets: get list watch",
	},
}

func TestRulesAreTheLeast(t *testing.T) {
	if diff := cmp.Diff(wantRules, roles(t, render(t))); diff != "" {
		t.Errorf("rules of the chart (-want +got):\n%s", diff)
	}
}

// The rules of config/rbac are generated from markers beside the code that needs them.
func TestRulesAreTheGeneratedOnes(t *testing.T) {
	paths, err := filepath.Glob("../config/rbac/*_role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, "\n---\n"...), file...)
	}
	if diff := cmp.Diff(roles(t, decode(t, text)), roles(t, render(t))); diff != "" {
		t.Errorf("run `make generate`, then make the chart's rules those of config/rbac (-config +chart):\n%s", diff)
	}
}

func TestRolesAreBound(t *testing.T) {
	all := render(t)
	for name := range wantRules {
		kind, rest, _ := strings.Cut(name, "/")
		component := name[strings.LastIndex(name, "/")+1:]
		var b rbacv1.RoleBinding // a ClusterRoleBinding has the same fields
		all.get(t, kind+"Binding/"+rest, &b)
		if diff := cmp.Diff(rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: component}, b.RoleRef); diff != "" {
			t.Errorf("%sBinding/%s (-want +got):\n%s", kind, rest, diff)
		}
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: component, Namespace: namespace}}
		if diff := cmp.Diff(want, b.Subjects); diff != "" {
			t.Errorf("%sBinding/%s (-want +got):\n%s", kind, rest, diff)
		}
		if _, ok := all["ServiceAccount/"+namespace+"/"+component]; !ok {
			t.Errorf("there is no ServiceAccount %s", component)
		}
	}
}

// roles returns the rules of all roles, by key, however they are grouped.
func roles(t *testing.T, all objects) map[string][]string {
	t.Helper()
	got := map[string][]string{}
	for key, o := range all {
		if kind := o.GetKind(); kind != "ClusterRole" && kind != "Role" {
			continue
		}
		var role rbacv1.Role // a ClusterRole has the same fields
		all.get(t, key, &role)
		got[key] = flatten(role.Rules)
	}
	return got
}

// flatten writes rules as sorted lines, one for each resource.
func flatten(rules []rbacv1.PolicyRule) []string {
	verbs := map[string][]string{}
	for _, rule := range rules {
		names := ""
		if len(rule.ResourceNames) > 0 {
			names = "[" + strings.Join(rule.ResourceNames, " ") + "]"
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				name := strings.TrimPrefix(group+"/"+resource, "/") + names
				verbs[name] = append(verbs[name], rule.Verbs...)
			}
		}
		verbs["URL"] = append(verbs["URL"], rule.NonResourceURLs...)
	}
	var lines []string
	for name, list := range verbs {
		slices.Sort(list)
		if len(list) > 0 {
			lines = append(lines, name+": "+strings.Join(slices.Compact(list), " "))
		}
	}
	slices.Sort(lines)
	return lines
}
