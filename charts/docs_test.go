package charts

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const valuesPage = "../docs/helm-values.md"

const valuesIntro = `# Values of the Helm chart

Made from the chart's values.schema.json: edit that, then run ` + "`go test ./charts -update`" + `.
Give values with ` + "`--set NAME=VALUE`" + ` or in a file with ` + "`--values FILE`" + `. A value that is not listed here is refused.

| value | default | meaning |
|---|---|---|
`

// schema is the part of JSON Schema that values.schema.json is written in.
type schema struct {
	Description          string            `json:"description"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties json.RawMessage   `json:"additionalProperties"`
}

func TestValuesPageIsFresh(t *testing.T) {
	var root schema
	var defaults map[string]any
	readInto(t, "fairlead/values.schema.json", &root)
	readInto(t, "fairlead/values.yaml", &defaults)

	want := valuesIntro + strings.Join(rows(t, "", root, defaults), "")
	if *update {
		if err := os.WriteFile(valuesPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(valuesPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run `go test ./charts -update`: %s is stale (-want +got):\n%s", valuesPage, diff)
	}
}

// rows describes the values of an object in the schema, one line each, and checks that schema and defaults know the same
// values, that each is described and that no other is let through.
func rows(t *testing.T, prefix string, s schema, defaults map[string]any) []string {
	t.Helper()
	if string(s.AdditionalProperties) != "false" {
		t.Errorf("values.schema.json: %q lets unknown values through: add \"additionalProperties\": false", prefix)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Properties)), func(n string) bool { return prefix+n == "global" })
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(defaults))); diff != "" {
		t.Errorf("values under %q (-schema +values.yaml):\n%s", prefix, diff)
	}
	var lines []string
	for _, name := range names {
		value := s.Properties[name]
		if value.Description == "" {
			t.Errorf("values.schema.json: %s has no description", prefix+name)
		}
		if value.Properties != nil {
			inner, _ := defaults[name].(map[string]any)
			lines = append(lines, rows(t, prefix+name+".", value, inner)...)
			continue
		}
		text, err := json.Marshal(defaults[name])
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("| `%s` | `%s` | %s |\n", prefix+name, text, strings.ReplaceAll(value.Description, "|", "\\|")))
	}
	return lines
}

func readInto(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
