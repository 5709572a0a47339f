package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What the demo installs, and under which names.
const (
	demoNamespace = "fairlead-system"
	demoRelease   = "fairlead"
	demoPool      = "{172.30.0.200-172.30.0.250,fd30::200-fd30::250}"
)

// sample is what a user would apply after the installation: a Deployment, a
// Service of type LoadBalancer, and a pod to look from.
//
//go:embed sample.yaml
var sample string

// demoCommand makes the lab, installs Fairlead from this checkout and fetches
// a page through the address it gave. What is there already stays as it is.
func (l lab) demoCommand(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("demo takes nothing, not %q", args)
	}
	p := newProgress(os.Stdout)
	return alone(ctx, p, func() error { return l.demo(ctx, p) })
}

func (l lab) demo(ctx context.Context, p *progress) error {
	d, err := l.withFairlead(ctx, settings{}, p)
	if err != nil {
		return err
	}
	err = d.steps(ctx, []step{
		{"apply the sample Deployment and Service", d.applySample},
		{"wait for the address", d.waitAddress},
		{"fetch a page over IPv4 and IPv6, and from a pod by name", d.fetch},
	})
	if err != nil {
		return err
	}
	d.summary()
	return nil
}

// withFairlead brings the lab up and installs this checkout's Fairlead.
func (l lab) withFairlead(ctx context.Context, want settings, p *progress) (*demoRun, error) {
	if err := l.up(ctx, want, p); err != nil {
		return nil, err
	}
	s, err := l.loadSettings()
	if err != nil {
		return nil, err
	}
	d := &demoRun{lab: l, settings: s, progress: p}
	return d, d.steps(ctx, []step{
		{"build Fairlead's images", d.build},
		{"load them into the nodes", d.loadImages},
		{"install the chart: helm install " + demoRelease + " charts/fairlead --set pool=" + demoPool, d.install},
	})
}

// A step is one thing to do and what the user is told about it.
type step struct {
	name string
	do   func(context.Context) error
}

func (d *demoRun) steps(ctx context.Context, all []step) error {
	for _, s := range all {
		if err := d.progress.step(s.name, func() error { return s.do(ctx) }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// A demoRun is one run of `lab demo`.
type demoRun struct {
	lab
	settings
	progress  *progress
	tag       string
	addresses []netip.Addr
	pages     []string
}

// components are Fairlead's own programs, each with an image of its own.
func components() []string { return []string{"controller", "speaker"} }

func (l lab) imageFile(component string) string { return l.path("images", component+".tar") }

// build compiles Fairlead. The images' tag comes from the binaries' content, so
// that the same code is the same image and pods are replaced only by another.
func (d *demoRun) build(ctx context.Context) error {
	tag, err := d.buildFairlead(ctx, d.path("images"))
	d.tag = tag
	return err
}

// buildFairlead writes an archive for each component into a folder and returns their tag.
func (l lab) buildFairlead(ctx context.Context, dir string) (string, error) {
	sum := sha256.New()
	for _, c := range components() {
		binary := filepath.Join(dir, "bin", c)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=dev", "-o", binary, "./"+c)
		cmd.Dir = l.checkout
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", c, err, out)
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", c, err)
		}
		sum.Write(content)
	}
	tag := "dev-" + hex.EncodeToString(sum.Sum(nil))[:12]
	for _, c := range components() {
		binary := filepath.Join(dir, "bin", c)
		spec := imageSpec{Name: "fairlead.dev/" + c + ":" + tag, Entrypoint: []string{"/" + c}, Files: map[string]string{"/" + c: binary}}
		if err := writeImage(spec, filepath.Join(dir, c+".tar")); err != nil {
			return "", err
		}
	}
	return tag, nil
}

func (d *demoRun) loadImages(ctx context.Context) error {
	if d.noted("loaded") == d.tag {
		return nil
	}
	var files []string
	for _, c := range components() {
		files = append(files, d.imageFile(c))
	}
	if err := d.load(ctx, files...); err != nil {
		return err
	}
	return d.note("loaded", d.tag)
}

// noted reads what an earlier run noted, "" if nothing.
func (d *demoRun) noted(what string) string {
	text, err := os.ReadFile(d.path("run", "demo-"+what))
	if err != nil {
		return ""
	}
	return string(text)
}

func (d *demoRun) note(what, value string) error {
	return writeFile(d.path("run", "demo-"+what), []byte(value))
}

// install installs or upgrades the chart, unless this very chart is installed already.
func (d *demoRun) install(ctx context.Context) error {
	chart := filepath.Join(d.checkout, "charts", "fairlead")
	sum, err := folderSum(chart)
	if err != nil {
		return err
	}
	want := d.tag + " " + sum
	if d.noted("installed") == want {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(d.Bin, "helm"), "upgrade", "--install", demoRelease, chart,
		"--namespace", demoNamespace, "--create-namespace", "--wait", "--timeout", "3m",
		"--set", "pool="+demoPool, "--set", "image.tag="+d.tag,
		"--set", "apiServer.host="+apiAddress, "--set", "apiServer.port="+apiPort)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+d.kubeconfig())
	if out, err := cmd.CombinedOutput(); err != nil {
		state, _ := d.kubectlOf(ctx, d.settings, "", "get", "pods,events", "-n", demoNamespace)
		return fmt.Errorf("helm upgrade --install: %w\n%s\n%s", err, out, state)
	}
	return d.note("installed", want)
}

// folderSum is a checksum of the names and contents of a folder's files.
func folderSum(dir string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		fmt.Fprintln(sum, path)
		_, err = io.Copy(sum, file)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", dir, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (d *demoRun) applySample(ctx context.Context) error {
	if _, err := d.kubectlOf(ctx, d.settings, sample, "apply", "-f", "-"); err != nil {
		return err
	}
	return d.until(ctx, 2*time.Minute, func() error {
		out, err := d.kubectlOf(ctx, d.settings, "", "get", "deployment/web", "pod/tester", "-o",
			`jsonpath={range .items[*]}{.status.readyReplicas}{.status.phase} {end}`)
		if err == nil && strings.TrimSpace(out) != "3 Running" {
			err = fmt.Errorf("3 pods of the Deployment and the pod tester should be ready: %q", out)
		}
		return err
	})
}

func (d *demoRun) waitAddress(ctx context.Context) error {
	return d.until(ctx, time.Minute, func() error {
		out, err := d.kubectlOf(ctx, d.settings, "", "get", "service", "web", "-o", `jsonpath={.status.loadBalancer.ingress[*].ip}`)
		if err != nil {
			return err
		}
		d.addresses = nil
		for _, text := range strings.Fields(out) {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("read the address of the Service: %w", err)
			}
			d.addresses = append(d.addresses, addr)
		}
		if len(d.addresses) < 2 {
			events, _ := d.kubectlOf(ctx, d.settings, "", "describe", "service", "web")
			return fmt.Errorf("the Service should have an IPv4 and an IPv6 address, it has %v\n%s", d.addresses, events)
		}
		return nil
	})
}

// fetch gets the page that makes it all worth while.
func (d *demoRun) fetch(ctx context.Context) error {
	client, err := findHost("client")
	if err != nil {
		return err
	}
	d.pages = nil
	for _, addr := range d.addresses {
		url := "http://" + netip.AddrPortFrom(addr, 80).String() + "/hostname"
		err := d.until(ctx, 30*time.Second, func() error {
			out, err := d.output(ctx, client, "curl", "-sS", "--fail", "--max-time", "2", url)
			if err == nil {
				d.pages = append(d.pages, fmt.Sprintf("  client$ curl %s\n  %s", url, out))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	const name = "http://web.default.svc.cluster.local/hostname"
	return d.until(ctx, 30*time.Second, func() error {
		out, err := d.kubectlOf(ctx, d.settings, "", "exec", "tester", "--", "fetch", name)
		if err == nil {
			d.pages = append(d.pages, fmt.Sprintf("  pod tester$ fetch %s\n  %s", name, out))
		}
		return err
	})
}

// until asks again and again until check returns nil, and gives up with its last error.
func (d *demoRun) until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not within %s", limit), err)
		}
	}
}

func (d *demoRun) summary() {
	v4 := d.addresses[slices.IndexFunc(d.addresses, netip.Addr.Is4)]
	var out bytes.Buffer
	fmt.Fprintf(&out, "\nFairlead works, after %s. The Service \"web\" answers at its addresses:\n\n", d.progress.total())
	for _, page := range d.pages {
		fmt.Fprintln(&out, page)
	}
	fmt.Fprintf(&out, `
Try next:
  go run ./e2e/lab kubectl get fairlead                        what Fairlead has and does
  go run ./e2e/lab kubectl describe service web                its address, and why it has it
  go run ./e2e/lab exec remote -- curl -s http://%[1]s/hostname   from beyond the router
  go run ./e2e/lab exec node1 -- nft list table ip fairlead    what the kernel holds
  go run ./e2e/lab failover --address %[1]s --runs 3      pull the owner's cable and watch
  make lab-down                                                remove it all
`, v4)
	d.progress.printf("%s", out.String())
}
