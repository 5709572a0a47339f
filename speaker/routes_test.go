package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/speaker/bgp"
)

// circumstances are what a scenario says beside its objects.
type circumstances struct {
	Dead     []string          `json:"dead"`     // nodes whose speakers went silent
	Gateways []netip.Addr      `json:"gateways"` // of every node
	Secrets  map[string]string `json:"secrets"`
	Draining string            `json:"draining"` // for how long nodes that leave have been leaving
	Nodes    []string          `json:"nodes"`    // that are printed; all if empty
}

// A scenario of testdata/routes is objects.yaml and, optionally, circumstances.yaml in, what each node tells out. Objects
// of MetalLB are read after changing their apiVersion.
func TestRoutes(t *testing.T) {
	files, err := filepath.Glob("testdata/routes/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find the scenarios: %v, %d files", err, len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
			}
			var around circumstances
			if err := yaml.UnmarshalStrict([]byte(parts["circumstances.yaml"]), &around); err != nil {
				t.Fatalf("circumstances.yaml: %v", err)
			}
			objects := regexp.MustCompile(`apiVersion: metallb.io/.*`).ReplaceAllString(parts["objects.yaml"], "apiVersion: fairlead.dev/v1beta1")
			got := printPlans(t, objects, around)
			if *update {
				rewrite(t, file, archive, "told", got)
				return
			}
			if diff := cmp.Diff(parts["told"], got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// worldOf reads a world as the speaker of a node has it.
func worldOf(t *testing.T, objects, node string, around circumstances) World {
	t.Helper()
	r := &reader{addressed: newNames(), client: fakeCluster(t, objects), node: node, namespace: "fairlead-system"}
	snapshot, err := r.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := snapshot.world(node)
	w.Gateways, w.Secrets = around.Gateways, around.Secrets
	w.Now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, n := range w.Nodes {
		member := Member{Name: n.Name}
		if slices.Contains(around.Dead, n.Name) {
			member.Life = Dead
		}
		w.Members = append(w.Members, member)
	}
	if around.Draining != "" {
		draining, err := time.ParseDuration(around.Draining)
		if err != nil {
			t.Fatal(err)
		}
		w.DrainingSince = w.Now.Add(-draining)
	}
	return w
}

func printPlans(t *testing.T, objects string, around circumstances) string {
	var out strings.Builder
	for _, node := range worldOf(t, objects, "", around).Nodes {
		if len(around.Nodes) > 0 && !slices.Contains(around.Nodes, node.Name) {
			continue
		}
		fmt.Fprintf(&out, "%s\n", node.Name)
		printPlan(&out, Routes(worldOf(t, objects, node.Name, around)))
	}
	return out.String()
}

func printPlan(out *strings.Builder, plan RoutePlan) {
	for _, peer := range plan.Wish.Peers {
		fmt.Fprintf(out, "  to %s%s\n", peer.Key, sessionText(peer, plan))
		for _, route := range plan.Wish.Routes[peer.Key] {
			fmt.Fprintf(out, "    %s%s\n", route.Prefix, routeText(route))
		}
	}
	for _, r := range plan.Refusals {
		elsewhere := ""
		if r.Elsewhere {
			elsewhere = ", not needed"
		}
		fmt.Fprintf(out, "  not %s of %s: %s%s: %s\n", r.Address, strings.Join(r.Services, ", "), r.Reason, elsewhere, r.Message)
	}
	for _, p := range plan.Problems {
		fmt.Fprintf(out, "  %s: %s: %s\n", p.Object, p.Reason, p.Message)
	}
	if plan.Next > 0 {
		fmt.Fprintf(out, "  again in %s\n", plan.Next)
	}
}

func sessionText(p bgp.Peer, plan RoutePlan) string {
	var words []string
	say := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(p.Address.IsValid(), " at %s", p.Address)
	say(p.Interface != "", " on %s", p.Interface)
	say(p.VRF != "", " in VRF %s", p.VRF)
	say(p.Port != 0, " port %d", p.Port)
	remote := map[bgp.ASNRule]string{bgp.Exact: fmt.Sprint(p.PeerASN), bgp.Internal: "internal", bgp.External: "external"}[p.ASN]
	say(true, ", AS %d to %s, ID %s", p.LocalASN, remote, p.RouterID)
	say(p.Source.IsValid(), ", from %s", p.Source)
	say(p.HoldTime != 0, ", hold %s", p.HoldTime)
	say(p.Keepalive != 0, ", keepalive %s", p.Keepalive)
	say(p.ConnectRetry != 0, ", connect %s", p.ConnectRetry)
	say(p.Password != "", ", password %q", p.Password)
	say(p.MultihopTTL != 0, ", TTL %d", p.MultihopTTL)
	say(p.TTLSecurity != 0, ", at most %d hops", p.TTLSecurity)
	say(p.GracefulRestart != 0, ", restart %s", p.GracefulRestart)
	for _, family := range p.Families {
		say(true, ", %s", family)
	}
	if watch, ok := plan.Watch[p.Key]; ok {
		say(true, ", BFD %s/%s*%d", watch.Profile.Receive, watch.Profile.Transmit, watch.Profile.Multiplier)
		say(watch.Multihop, " multihop")
		say(watch.Profile.Passive, " passive")
		say(watch.Profile.MinimumTTL != 0, " TTL %d", watch.Profile.MinimumTTL)
	}
	say(p.Blocked != "", "\n    blocked: %s", p.Blocked)
	return strings.Join(words, "")
}

func routeText(r bgp.Route) string {
	var words []string
	if r.LocalPref.Set {
		words = append(words, fmt.Sprintf(" localPref %d", r.LocalPref.Value))
	}
	if r.MED.Set {
		words = append(words, fmt.Sprintf(" med %d", r.MED.Value))
	}
	if r.Prepend > 0 {
		words = append(words, fmt.Sprintf(" prepend %d", r.Prepend))
	}
	for _, c := range r.Communities {
		words = append(words, fmt.Sprintf(" %d:%d", c>>16, c&0xffff))
	}
	for _, c := range r.Large {
		words = append(words, fmt.Sprintf(" %d:%d:%d", c.Global, c.Data1, c.Data2))
	}
	return strings.Join(words, "")
}
