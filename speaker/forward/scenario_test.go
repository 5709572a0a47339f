package forward

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/speaker/nft"
)

var update = flag.Bool("update", false, "rewrite the scenarios' results")

func testNode() Node {
	return Node{
		Name: "node1", Zone: "a",
		Addresses:     []netip.Addr{netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("fd30::11")},
		PodCIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/16")},
		ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/112")},
		Protected:     []netip.AddrPort{netip.MustParseAddrPort("172.30.0.10:6443")},
		ReservedPorts: map[uint16]bool{22: true, 10250: true},
		Dead:          map[string]bool{"dead1": true},
	}
}

// TestScenarios translates the Kubernetes objects in testdata/*.txtar. Each
// file is: what it shows, "in.yaml", optional "pick" and "node", and "want".
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { scenario(t, file) })
	}
}

func scenario(t *testing.T, file string) {
	arc, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []txtar.File
	for _, f := range arc.Files {
		if f.Name == "want" {
			continue
		}
		out = append(out, f)
	}
	got := translate(t, arc)
	if *update {
		arc.Files = append(out, txtar.File{Name: "want", Data: []byte(got)})
		if err := os.WriteFile(file, txtar.Format(arc), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(section(arc, "want"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// node is the test's node as a scenario's section "node" has it. Its lines may be
// "no zone", "no pods", "masquerade all" and "node ports ADDRESS...".
func node(arc *txtar.Archive) Node {
	n := testNode()
	if hasLine(arc, "no zone") {
		n.Zone = ""
	}
	return n
}

func hasLine(arc *txtar.Archive, line string) bool {
	return slices.Contains(strings.Split(section(arc, "node"), "\n"), line)
}

func section(arc *txtar.Archive, name string) string {
	for _, f := range arc.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func translate(t *testing.T, arc *txtar.Archive) string {
	t.Helper()
	var b strings.Builder
	pick := nft.Random
	if strings.TrimSpace(section(arc, "pick")) == "hash" {
		pick = nft.Hash
	}
	services, slices := objects(t, section(arc, "in.yaml"))
	for i, svc := range services {
		if i > 0 {
			b.WriteString("\n")
		}
		r := Service(svc, slices, node(arc), pick)
		fmt.Fprintf(&b, "# %s/%s\n%s", svc.Namespace, svc.Name, r.Wish)
		s := r.Summary
		fmt.Fprintf(&b, "ready %d (here %d), draining %d (here %d), eligible %t, health check %d\n",
			s.Ready, s.LocalReady, s.Serving, s.LocalServing, s.Eligible, s.HealthCheckNodePort)
		for _, why := range r.Reasons {
			fmt.Fprintf(&b, "%s: %s\n", why.Code, why.Message)
		}
	}
	return b.String()
}

// objects reads Services and EndpointSlices out of YAML documents.
func objects(t *testing.T, in string) ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	t.Helper()
	services, slices, err := readObjects(in)
	if err != nil {
		t.Fatal(err)
	}
	return services, slices
}

func readObjects(in string) (services []*corev1.Service, slices []*discoveryv1.EndpointSlice, err error) {
	for doc := range strings.SplitSeq(in, "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			return nil, nil, err
		}
		var into any
		switch kind.Kind {
		case "Service":
			services = append(services, &corev1.Service{})
			into = services[len(services)-1]
		case "EndpointSlice":
			slices = append(slices, &discoveryv1.EndpointSlice{})
			into = slices[len(slices)-1]
		default:
			return nil, nil, fmt.Errorf("unknown kind %q", kind.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
			return nil, nil, err
		}
	}
	return services, slices, nil
}
