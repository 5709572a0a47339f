package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// An imageSpec says what an image is made of. It has no base and one layer.
type imageSpec struct {
	Name       string
	Entrypoint []string
	Cmd        []string
	Files      map[string]string // path in the image: path of the file on this machine
	Links      map[string]string // path in the image: where the symbolic link points
	Entries    []entry           // what else there is; Files and Links win over it
}

// An entry is a file, a link or a folder of a layer.
type entry struct {
	Path    string
	Link    string
	Content []byte
	Dir     bool
}

// writeImage builds the image and writes it as a docker archive, which containerd imports. The same input
// gives the same bytes: the layer is sorted and has no times.
func writeImage(spec imageSpec, out string) error {
	tag, err := name.NewTag(spec.Name)
	if err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	img, err := buildImage(spec)
	if err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	tmp := out + ".part"
	defer os.Remove(tmp)
	if err := tarball.WriteToFile(tmp, tag, img); err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	return nil
}

func buildImage(spec imageSpec) (v1.Image, error) {
	entries, err := spec.entries()
	if err != nil {
		return nil, err
	}
	content, err := writeLayer(entries)
	if err != nil {
		return nil, err
	}
	// Not compressed: the archive goes no further than this machine.
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(content, types.DockerUncompressedLayer))
	if err != nil {
		return nil, fmt.Errorf("add the layer: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	cf.Config.Entrypoint, cf.Config.Cmd = spec.Entrypoint, spec.Cmd
	cf.Config.Env = []string{"PATH=" + searchPath}
	return mutate.ConfigFile(img, cf)
}

// entries lists the content of the layer, folders before what they hold.
func (s imageSpec) entries() ([]entry, error) {
	byPath := map[string]entry{}
	for _, e := range s.Entries {
		byPath[e.Path] = e
	}
	for path, file := range s.Files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		byPath[path] = entry{Path: path, Content: content}
	}
	for path, link := range s.Links {
		byPath[path] = entry{Path: path, Link: link}
	}
	dirs := []string{"/tmp", "/etc"}
	for path := range byPath {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			byPath[dir] = entry{Path: dir, Dir: true}
		}
	}
	entries := make([]entry, 0, len(byPath))
	for _, e := range byPath {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

func writeLayer(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: strings.TrimPrefix(e.Path, "/"), Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(e.Content))}
		switch {
		case e.Dir && e.Path == "/tmp":
			h.Name, h.Typeflag, h.Mode = h.Name+"/", tar.TypeDir, 0o1777
		case e.Dir:
			h.Name, h.Typeflag = h.Name+"/", tar.TypeDir
		case e.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.Path, err)
		}
		if _, err := w.Write(e.Content); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the layer: %w", err)
	}
	return out.Bytes(), nil
}

// labImages lists the images that every lab needs.
func labImages(ctx context.Context, bin string) ([]imageSpec, error) {
	links, err := appletLinks(ctx)
	if err != nil {
		return nil, err
	}
	return []imageSpec{
		{
			Name: "fairlead.dev/agnhost:lab", Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"},
			Files: map[string]string{"/agnhost": filepath.Join(bin, "agnhost"), "/bin/busybox": "/bin/busybox", "/bin/fetch": filepath.Join(bin, "fetch")}, Links: links,
		},
		{Name: "fairlead.dev/coredns:lab", Entrypoint: []string{"/coredns"}, Files: map[string]string{"/coredns": filepath.Join(bin, "coredns")}},
		{Name: "fairlead.dev/pause:lab", Entrypoint: []string{"/pause"}, Files: map[string]string{"/pause": filepath.Join(bin, "pause")}},
	}, nil
}

// appletLinks lists the names under which busybox does something: sh, wget, nslookup, nc and so on.
func appletLinks(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "/bin/busybox", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	links := map[string]string{}
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			links["/bin/"+applet] = "/bin/busybox"
		}
	}
	return links, nil
}

// buildImages makes the lab's images that are not in the cache yet and returns their archives, sorted by name.
func buildImages(ctx context.Context, bin string) ([]string, error) {
	specs, err := labImages(ctx, bin)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(filepath.Dir(bin), "images")
	var files []string
	for _, s := range specs {
		base, _, _ := strings.Cut(filepath.Base(s.Name), ":")
		file := filepath.Join(dir, base+".tar")
		files = append(files, file)
		if exists(file) {
			continue
		}
		if err := writeImage(s, file); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// load imports image archives into the containerd of every node.
func (l lab) load(ctx context.Context, files ...string) error {
	var g errgroup.Group
	for _, n := range nodes() {
		g.Go(func() error {
			for _, f := range files {
				if err := l.loadInto(ctx, n, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (l lab) loadInto(ctx context.Context, n host, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load an image: %w", err)
	}
	defer f.Close()
	// Over standard input, because the node may not see the file: its /run is another.
	if _, err := l.outputOf(ctx, n, f, "ctr", "-n", "k8s.io", "images", "import", "-"); err != nil {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}
