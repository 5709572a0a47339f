// Package charts holds the chart and the tests of what it renders: that its values are checked, that its pods have the rights
// they need and no others, and that config/default renders the same objects.
//
// The tests run helm and kustomize as pinned in .tools/helm. They need no cluster and no root. Whether a cluster accepts
// the objects is for the tests in e2e.
package charts

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	chart     = "fairlead"
	namespace = "fairlead-system"
)

var update = flag.Bool("update", false, "rewrite docs/helm-values.md from the chart's schema")

// Both are built at their first use, if they are not in the build cache.
var (
	helm      = sync.OnceValues(func() (string, error) { return buildTool("helm") })
	kustomize = sync.OnceValues(func() (string, error) { return buildTool("kustomize") })
)

// buildTool returns the path of a program of .tools/helm.
func buildTool(name string) (string, error) {
	cmd := exec.Command("go", "tool", "-modfile=../.tools/helm/go.mod", "-n", name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// output runs a command. Its error holds what the command complains of.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.Bytes(), nil
}

// template renders the chart in a folder. The arguments are those of helm template.
func template(chart string, args ...string) ([]byte, error) {
	program, err := helm()
	if err != nil {
		return nil, err
	}
	args = append([]string{"template", "fairlead", chart, "--namespace", namespace, "--kube-version", "1.36.0"}, args...)
	return output(exec.Command(program, args...))
}

// render returns the objects that the chart makes.
func render(t *testing.T, args ...string) objects {
	t.Helper()
	out, err := template(chart, args...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

// renderDefault returns the objects that config/default makes.
func renderDefault(t *testing.T) objects {
	t.Helper()
	program, err := kustomize()
	if err != nil {
		t.Fatal(err)
	}
	out, err := output(exec.Command(program, "build", "../config/default"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

// objects are what was rendered, by key.
type objects map[string]*unstructured.Unstructured

// key names an object: Kind/name, or Kind/namespace/name.
func key(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

func decode(t *testing.T, text []byte) objects {
	t.Helper()
	all := objects{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("decode objects: %v", err)
		}
		if len(o.Object) == 0 {
			continue
		}
		if _, ok := all[key(o)]; ok {
			t.Errorf("%s is rendered twice", key(o))
		}
		all[key(o)] = o
	}
}

// get fills an object of its kind's type from what was rendered. Fields that the type does not have are an error.
func (all objects) get(t *testing.T, key string, into any) {
	t.Helper()
	o, ok := all[key]
	if !ok {
		t.Fatalf("%s is not rendered", key)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, into, true); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
}
