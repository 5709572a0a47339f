package v1beta1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reasons returns the values of all constants named Reason…, and fails for one without a comment.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if want := "Reason" + value; spec.Names[0].Name != want {
			t.Errorf("%s is %q, want it named %s", spec.Names[0].Name, value, want)
		}
		if !strings.HasPrefix(spec.Doc.Text(), spec.Names[0].Name+" means") {
			t.Errorf("%s does not say what it means", spec.Names[0].Name)
		}
		all = append(all, value)
		return true
	})
	slices.Sort(all)
	return all
}

// TestEveryReasonHasAPage asserts that docs/reasons has a page for each reason, and none for anything else.
func TestEveryReasonHasAPage(t *testing.T) {
	const dir = "../../docs/reasons"
	files, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		if name == "README" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# "+name+"\n") || !strings.Contains(string(text), "\n## What to do\n") {
			t.Errorf("%s is not a page about %s", file, name)
		}
		if !strings.Contains(string(index), "("+name+".md)") {
			t.Errorf("the index does not name %s", name)
		}
		pages = append(pages, name)
	}
	slices.Sort(pages)
	if diff := cmp.Diff(reasons(t), pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}
