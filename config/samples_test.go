package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/config"
)

// documents returns the YAML documents of a file that are more than comments.
func documents(t *testing.T, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(data, []byte("\n---\n"))
}

// checkAdmitted asserts that the API server would take an object of ours, every field of it.
func checkAdmitted(t *testing.T, document []byte) {
	t.Helper()
	object := decode(t, document)
	kind, _ := object["kind"].(string)
	crd, ok := readCRDs(t)[kind]
	if !ok {
		t.Fatalf("%q is no kind of ours", kind)
	}
	structural, err := schema.NewStructural(crd.Spec.Validation.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	unknown := pruning.PruneWithOptions(object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		t.Errorf("unknown fields %v in\n%s", unknown, document)
	}
	if mistakes := admit(t, crd, object); len(mistakes) > 0 {
		t.Errorf("%v in\n%s", mistakes, document)
	}
}

// TestMetalLBManifests asserts that manifests for MetalLB are admitted after the apiVersion was changed.
func TestMetalLBManifests(t *testing.T) {
	version := regexp.MustCompile(`apiVersion: metallb.io/.*`) // as in the migration page
	for _, document := range documents(t, "testdata/metallb.yaml") {
		checkAdmitted(t, version.ReplaceAll(document, []byte("apiVersion: fairlead.dev/v1beta1")))
	}
}

// TestSamples asserts that the samples are admitted, and that Services in them ask for what can be understood.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		for _, document := range documents(t, file) {
			if !bytes.Contains(document, []byte("kind: Service\n")) {
				checkAdmitted(t, document)
				continue
			}
			var service corev1.Service
			if err := yaml.UnmarshalStrict(document, &service); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			_, problems := config.ReadService(&service)
			if diff := cmp.Diff([]string(nil), texts(problems)); diff != "" {
				t.Errorf("%s: problems (-want +got):\n%s", file, diff)
			}
		}
	}
}
