package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func testSpec(t *testing.T) imageSpec {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "thing")
	if err := os.WriteFile(binary, []byte("a binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	return imageSpec{
		Name: "fairlead.dev/thing:dev", Entrypoint: []string{"/opt/thing"}, Cmd: []string{"serve"},
		Files: map[string]string{"/opt/thing": binary, "/bin/busybox": binary}, Links: map[string]string{"/bin/sh": "/bin/busybox"},
	}
}

func TestLayerIsSortedWithFoldersFirst(t *testing.T) {
	entries, err := testSpec(t).entries()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Path)
	}
	want := []string{"/bin", "/bin/busybox", "/bin/sh", "/etc", "/opt", "/opt/thing", "/tmp"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestImageIsReproducible(t *testing.T) {
	spec, dir := testSpec(t), t.TempDir()
	var written [2][]byte
	for i, file := range []string{"a.tar", "b.tar"} {
		if err := writeImage(spec, filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		written[i] = content
	}
	if !bytes.Equal(written[0], written[1]) {
		t.Error("the same input gave two different archives")
	}
}

func TestImageSaysWhatToRun(t *testing.T) {
	spec := testSpec(t)
	file := filepath.Join(t.TempDir(), "thing.tar")
	if err := writeImage(spec, file); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/opt/thing", "serve", "linux"}
	got := append(append(cf.Config.Entrypoint, cf.Config.Cmd...), cf.OS)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestImageNeedsAWholeName(t *testing.T) {
	spec := testSpec(t)
	spec.Name = "Not A Name"
	if err := writeImage(spec, filepath.Join(t.TempDir(), "x.tar")); err == nil {
		t.Error("want an error for a bad name")
	}
}
