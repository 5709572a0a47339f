package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The versions of everything the lab builds from source.
const (
	kubernetesVersion = "v1.36.3"
	helmVersion       = "v3.22.0"
	coreDNSVersion    = "v1.12.4"
	// recipe changes when the way of building or packing does, so that old results are not taken for new ones.
	recipe = "1"
)

// A target is one binary of the lab and the arguments that make the go command build it.
type target struct {
	Name   string
	Folder string // relative to the checkout; "" means that the folder does not matter
	Args   []string
}

// linkFlags leaves out symbol tables, and sets the version that Kubernetes reports of itself.
func linkFlags() string {
	const v = "k8s.io/component-base/version"
	return "-s -w -X " + v + ".gitVersion=" + kubernetesVersion + " -X " + v + ".gitMajor=1 -X " + v + ".gitMinor=36"
}

// targets lists the binaries in the order in which they are built.
func targets() []target {
	var ts []target
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "kube-proxy"} {
		ts = append(ts, kubernetesTarget(name, "k8s.io/kubernetes/cmd/"+name))
	}
	return append(ts,
		kubernetesTarget("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
		kubernetesTarget("etcd", "./etcd"),
		ownTarget("pause"), ownTarget("fetch"),
		target{Name: "helm", Args: []string{"install", "-trimpath", "helm.sh/helm/v3/cmd/helm@" + helmVersion}},
		target{Name: "coredns", Args: []string{"install", "-trimpath", "github.com/coredns/coredns@" + coreDNSVersion}},
	)
}

// ownTarget is a small program of the lab's own, for its pod images.
func ownTarget(name string) target {
	return target{name, ".", []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", "./", "./e2e/lab/" + name}}
}

// cacheInputs are the files that what is built depends on, beside the recipe.
func cacheInputs() []string {
	return []string{"e2e/kubernetes/go.mod", "e2e/kubernetes/go.sum", "e2e/kubernetes/etcd/main.go", "e2e/lab/pause/main.go", "e2e/lab/fetch/main.go"}
}

func kubernetesTarget(name, pkg string) target {
	return target{name, "e2e/kubernetes", []string{"build", "-trimpath", "-ldflags", linkFlags(), "-o", "./", pkg}}
}

// cacheDir is where binaries and images are kept between labs. Its name changes with all they are made of.
func (l lab) cacheDir() (string, error) {
	root := os.Getenv("FAIRLEAD_CACHE")
	if root == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (set FAIRLEAD_CACHE): %w", err)
		}
		root = filepath.Join(dir, "fairlead")
	}
	hash := sha256.New()
	fmt.Fprintln(hash, recipe, targets())
	for _, name := range cacheInputs() {
		text, err := os.ReadFile(filepath.Join(l.checkout, name))
		if err != nil {
			return "", fmt.Errorf("name the cache folder: %w", err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
	}
	return filepath.Join(root, fmt.Sprintf("kubernetes-%s-%x", kubernetesVersion, hash.Sum(nil)[:6])), nil
}

// buildBinaries makes the binaries that are not in the cache yet and returns their folder. Each appears under its name
// only when it is whole, so an interrupted build goes on where it was.
func (l lab) buildBinaries(ctx context.Context, p *progress, all []target) (string, error) {
	cache, err := l.cacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "bin")
	var todo []target
	for _, t := range all {
		if !exists(filepath.Join(bin, t.Name)) {
			todo = append(todo, t)
		}
	}
	if len(todo) == 0 {
		return bin, nil
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", bin, err)
	}
	p.printf("Building what belongs to Kubernetes %s from source, once: about 8 minutes on 2 cores, and 5 more for its end-to-end suite.\n", kubernetesVersion)
	p.printf("They are kept in %s\n", bin)
	for i, t := range todo {
		err := p.step(fmt.Sprintf("build %s (%d of %d)", t.Name, i+1, len(todo)), func() error { return l.build(ctx, t, bin) })
		if err != nil {
			return "", err
		}
	}
	return bin, nil
}

// build makes one binary in a folder of its own and then moves it to bin.
func (l lab) build(ctx context.Context, t target, bin string) error {
	tmp, err := os.MkdirTemp(bin, ".build-*")
	if err != nil {
		return fmt.Errorf("build %s: %w", t.Name, err)
	}
	defer os.RemoveAll(tmp)
	args := append([]string{}, t.Args...)
	for i := range args {
		if args[i] == "./" {
			args[i] = tmp + "/"
		}
	}
	cmd := goCommand(ctx, args...)
	cmd.Dir = tmp
	if t.Folder != "" {
		cmd.Dir = filepath.Join(l.checkout, t.Folder)
	}
	cmd.Env = append(cmd.Env, "GOBIN="+tmp)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", t.Name, err, withoutDownloads(out.String()))
	}
	if err := os.Rename(filepath.Join(tmp, t.Name), filepath.Join(bin, t.Name)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("build %s: %w", t.Name, err)
	}
	return nil
}

// goCommand makes static binaries of the module around its folder.
func goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

// withoutDownloads leaves what the go command says about its errors.
func withoutDownloads(out string) string {
	var kept []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "go: downloading ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
