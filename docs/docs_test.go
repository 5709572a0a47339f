// Package docs holds the pages of the manual and the test that what they name exists. Whether it is true what they say, nobody but
// their readers can test.
package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the text of the README and of every page, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range append(paths, "../README.md") {
		texts[path] = read(t, path)
	}
	return texts
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// named calls check with what the expression's first group finds in the pages.
func named(t *testing.T, expression string, check func(page, name string)) {
	t.Helper()
	find := regexp.MustCompile(expression)
	found := 0
	for page, text := range pages(t) {
		for _, match := range find.FindAllStringSubmatch(text, -1) {
			found++
			check(page, match[1])
		}
	}
	if found == 0 {
		t.Fatalf("no page has anything like %s", expression)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	named(t, `\]\(([^)]+)\)`, func(page, link string) {
		if strings.Contains(link, "://") {
			return
		}
		path, _, _ := strings.Cut(link, "#")
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), path)); err != nil {
			t.Errorf("%s links to %s: %v", page, link, err)
		}
	})
}

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "../Makefile")
	named(t, "(?m)(?:^|`)make ([a-z-]+)", func(page, target string) {
		if !strings.Contains(makefile, "\n"+target+":") {
			t.Errorf("%s says make %s, which the Makefile does not have", page, target)
		}
	})
}

func TestLabCommandsExist(t *testing.T) {
	usage := read(t, "../e2e/lab/main.go")
	named(t, `go run \./e2e/lab ([a-z]+)`, func(page, command string) {
		if !strings.Contains(usage, `"`+command+`":`) {
			t.Errorf("%s says go run ./e2e/lab %s, which the lab does not have", page, command)
		}
	})
}

func TestValuesExist(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, "../charts/fairlead/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	named(t, `--set '?([A-Za-z][A-Za-z.]*)=`, func(page, value string) {
		at := schema
		for _, name := range strings.Split(value, ".") {
			properties, _ := at["properties"].(map[string]any)
			at, _ = properties[name].(map[string]any)
		}
		if at == nil && value != "NAME" {
			t.Errorf("%s sets %s, which the chart does not have", page, value)
		}
	})
}

func TestReasonsExist(t *testing.T) {
	reasons := read(t, "../api/v1beta1/reasons.go") + read(t, "../speaker/forwarding.go")
	named(t, "(?m)^\\| `([A-Z][A-Za-z]+)`", func(page, reason string) {
		if !strings.Contains(reasons, `"`+reason+`"`) {
			t.Errorf("%s explains the reason %s, which nothing gives", page, reason)
		}
	})
}
