package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

var update = flag.Bool("update", false, "rewrite the expected parts of the scenarios")

// A scenario of testdata/decide is objects.yaml and members.json in, verdicts out.
func TestDecide(t *testing.T) {
	files, err := filepath.Glob("testdata/decide/*.txtar")
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
			r := &reader{addressed: newNames(), client: fakeCluster(t, parts["objects.yaml"]), node: "node1", namespace: "fairlead-system"}
			snapshot, err := r.snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w := snapshot.world("node1")
			if err := json.Unmarshal([]byte(parts["members.json"]), &w.Members); err != nil {
				t.Fatalf("members.json: %v", err)
			}
			got := printVerdicts(Decide(w))
			if *update {
				rewrite(t, file, archive, "verdicts", got)
				return
			}
			if diff := cmp.Diff(parts["verdicts"], got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

// fakeCluster holds the objects of a YAML text as the cache would.
func fakeCluster(t *testing.T, text string) client.Reader {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for document := range strings.SplitSeq(text, "\n---\n") {
		object, _, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("objects.yaml: %v\n%s", err, document)
		}
		builder.WithObjects(object.(client.Object))
	}
	builder.WithIndex(&discoveryv1.EndpointSlice{}, byService, func(o client.Object) []string { return []string{serviceOf(o)} })
	return builder.Build()
}

func printVerdicts(verdicts []Verdict) string {
	var out strings.Builder
	for _, v := range verdicts {
		fmt.Fprintf(&out, "%s of %s\n", v.Address, strings.Join(v.Services, ", "))
		if v.Owner != "" {
			fmt.Fprintf(&out, "  %s on %s", v.Owner, strings.Join(v.Links, ", "))
			if v.RunnerUp != "" {
				fmt.Fprintf(&out, ", then %s", v.RunnerUp)
			}
			if v.Present != "" {
				fmt.Fprintf(&out, ", now %s", v.Present)
			}
			fmt.Fprintln(&out)
		}
		fmt.Fprintf(&out, "  %s: %s\n", v.Reason, v.Message)
		for _, r := range v.Refusals {
			fmt.Fprintf(&out, "  not %s: %s: %s\n", r.node, r.reason, r.message)
		}
	}
	return out.String()
}

// rewrite replaces, or adds, a part of a scenario.
func rewrite(t *testing.T, file string, archive *txtar.Archive, name, data string) {
	t.Helper()
	for i, f := range archive.Files {
		if f.Name == name {
			archive.Files[i].Data = []byte(data)
			data = ""
		}
	}
	if data != "" {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(data)})
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
