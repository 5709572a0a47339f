package charts

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKustomizeRendersTheSameObjects(t *testing.T) {
	got, want := renderDefault(t), render(t, "--include-crds")
	if _, ok := got["Namespace/"+namespace]; !ok {
		t.Errorf("config/default makes no namespace %s", namespace)
	}
	delete(got, "Namespace/"+namespace)                  // Helm makes it with --create-namespace
	delete(want, "Job/"+namespace+"/fairlead-uninstall") // kustomize has no hooks: docs/pools.md says what to do before it is uninstalled

	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("objects of config/default (-chart +kustomize):\n%s", diff)
	}
	if diff := cmp.Diff(roles(t, want), roles(t, got)); diff != "" {
		t.Errorf("rules (-chart +kustomize):\n%s", diff)
	}
	for name := range want {
		// The order of rules and of what is in them means nothing.
		delete(want[name].Object, "rules")
		delete(got[name].Object, "rules")
		if diff := cmp.Diff(want[name].Object, got[name].Object); diff != "" {
			t.Errorf("%s (-chart +kustomize):\n%s", name, diff)
		}
	}
}

func TestKustomizeNamespaceAdmitsTheSpeaker(t *testing.T) {
	labels := renderDefault(t)["Namespace/"+namespace].GetLabels()
	if got, want := labels["pod-security.kubernetes.io/enforce"], "privileged"; got != want {
		t.Errorf("pod-security.kubernetes.io/enforce = %q, want %q", got, want)
	}
}

func TestCRDsAreTheGeneratedOnes(t *testing.T) {
	if diff := cmp.Diff(readYAML(t, "../config/crd"), readYAML(t, "fairlead/crds")); diff != "" {
		t.Errorf("run `make generate`: charts/fairlead/crds differs from config/crd (-config +chart):\n%s", diff)
	}
}

// readYAML returns the text of the .yaml files of a folder by name; it must have one.
func readYAML(t *testing.T, folder string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("%s holds no .yaml file", folder)
	}
	files := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(text)
	}
	return files
}
