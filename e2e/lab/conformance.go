package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A part is a set of specs that want the same lab and are run from the same host.
type part struct {
	Name  string
	Areas string // regular expression for the beginning of its specs' names
	Not   string // and for those that another part runs
	From  string
	Lab   settings
	Apply string // manifests that the part wants beyond Fairlead's installation
}

// overBGP announces the installation's addresses to the router: it sends connections to all nodes that take them, where
// Layer 2 has a single one.
const overBGP = `apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: {name: router}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 172.30.0.1, connectTime: 1s}
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: {name: everything}
spec: {}
`

// parts lists what is run of the suite. Load balancers are tried from beyond the router, because a spec tells by a client's
// address whether it lies among the nodes; and with nodes that have no IPv6 address, because another puts one into a URL as
// it is. One wants a Service with the policy Local to reach pods of several nodes: only a router spreads connections so.
func parts() []part {
	const spread = "target all nodes with endpoints"
	return []part{
		{Name: "services", From: "control", Areas: `\[sig-network\]`, Not: `\[sig-network\] LoadBalancers`},
		{Name: "loadbalancers", From: "remote", Areas: `\[sig-network\] LoadBalancers`, Not: spread, Lab: settings{IPv4Nodes: true}},
		{Name: "routed", From: "remote", Areas: `\[sig-network\] LoadBalancers.* ` + spread, Lab: settings{IPv4Nodes: true}, Apply: overBGP},
	}
}

// conformanceOptions are what `lab conformance` is asked for.
type conformanceOptions struct {
	focus      string
	part       string
	kubeProxy  string
	exceptions bool
	procs      int
}

// sampleSpecs matches a few specs that are quick and tell a lot: they run with every change of Fairlead.
const sampleSpecs = `Services should (serve a basic endpoint|be able to create a functioning NodePort|be rejected when no endpoints|` +
	`support externalTrafficPolicy=Local for type=NodePort|allow pods to hairpin|respect internalTrafficPolicy=Local Pod to Pod|` +
	`have session affinity work for service|be able to switch session affinity for NodePort)|` +
	`Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP|` +
	`Networking should check kube-proxy urls|Proxy version v1 should proxy through a service`

func parseConformance(args []string) (conformanceOptions, error) {
	var o conformanceOptions
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.StringVar(&o.focus, "focus", "", "run only specs in whose names this `regexp` matches")
	flags.StringVar(&o.part, "part", "", "run only this part: services, loadbalancers or routed")
	flags.StringVar(&o.kubeProxy, "kube-proxy", "", "let kube-proxy forward in this `mode` instead of Fairlead, to compare")
	flags.BoolVar(&o.exceptions, "exceptions", false, "run also the specs that are known to fail; they still count as exceptions")
	small := flags.Bool("sample", false, "run only a few specs that are quick and tell a lot")
	flags.IntVar(&o.procs, "procs", 5, "how many specs to run at a time")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *small {
		o.focus, o.part = sampleSpecs, "services"
	}
	if _, err := regexp.Compile(o.focus); err != nil {
		return o, fmt.Errorf("--focus: %w", err)
	}
	if !validProxy(o.kubeProxy) {
		return o, fmt.Errorf("--kube-proxy=%s: write nftables or iptables", o.kubeProxy)
	}
	if o.part != "" && !slices.ContainsFunc(parts(), func(p part) bool { return p.Name == o.part }) {
		return o, fmt.Errorf("--part=%s: write services, loadbalancers or routed", o.part)
	}
	return o, nil
}

// conformanceCommand runs Kubernetes' own networking suite against Fairlead. It fails if a spec does that is no exception.
func (l lab) conformanceCommand(ctx context.Context, args []string) error {
	o, err := parseConformance(args)
	if err != nil {
		return err
	}
	p := newProgress(os.Stdout)
	return alone(ctx, p, func() error { return l.conformance(ctx, o, p) })
}

func (l lab) conformance(ctx context.Context, o conformanceOptions, p *progress) error {
	bin, images, err := l.buildSuite(ctx, p)
	if err != nil {
		return err
	}
	var all []result
	for _, part := range parts() {
		if o.part != "" && o.part != part.Name {
			continue
		}
		part.Lab.KubeProxy = o.kubeProxy
		if err := l.prepareSuite(ctx, part, images, p); err != nil {
			return err
		}
		p.printf("%7s  run the part %q from %s; all it says: %s\n", p.total(), part.Name, part.From, l.suiteLog(part))
		results, err := l.withManifests(ctx, part.Apply, func() ([]result, error) {
			return l.withZones(ctx, func() ([]result, error) { return l.runSuite(ctx, part, o, bin, p) })
		})
		if err != nil {
			return err
		}
		all = append(all, results...)
	}
	s := summarise(all, exceptions())
	fmt.Fprintf(p.out, "\n%s\nLoad of the machine: %s; it took %s.\n", s, loadAverage(), p.total())
	return s.err()
}

// prepareSuite makes sure of a lab with those settings, Fairlead and the suite's images. A lab with other settings goes.
func (l lab) prepareSuite(ctx context.Context, part part, images []string, p *progress) error {
	have, err := l.loadSettings()
	if err != nil {
		return err
	}
	if have.Complete && !have.sameLab(part.Lab) {
		if err := l.down(ctx, false, p); err != nil {
			return err
		}
	}
	d, err := l.withFairlead(ctx, part.Lab, p)
	if err != nil {
		return err
	}
	if d.noted("suite") == suiteRecipe {
		return nil
	}
	if err := p.step("load the suite's images into the nodes", func() error { return l.load(ctx, images...) }); err != nil {
		return err
	}
	return d.note("suite", suiteRecipe)
}

// withZones runs the specs while every node is in a zone of its own: some want three zones.
func (l lab) withZones(ctx context.Context, run func() ([]result, error)) ([]result, error) {
	for i, n := range nodes() {
		if err := l.setZone(ctx, n, string(rune('a'+i))); err != nil {
			return nil, err
		}
	}
	results, err := run()
	for _, n := range nodes() {
		err = errors.Join(err, l.setZone(context.WithoutCancel(ctx), n, n.Zone))
	}
	return results, err
}

// withManifests runs the specs while the manifests are applied.
func (l lab) withManifests(ctx context.Context, manifests string, run func() ([]result, error)) ([]result, error) {
	if manifests == "" {
		return run()
	}
	s, err := l.loadSettings()
	if err != nil {
		return nil, err
	}
	if _, err := l.kubectlOf(ctx, s, manifests, "apply", "-f", "-"); err != nil {
		return nil, err
	}
	results, err := run()
	_, gone := l.kubectlOf(context.WithoutCancel(ctx), s, manifests, "delete", "-f", "-")
	return results, errors.Join(err, gone)
}

func (l lab) setZone(ctx context.Context, n host, zone string) error {
	s, err := l.loadSettings()
	if err != nil {
		return err
	}
	_, err = l.kubectlOf(ctx, s, "", "label", "node", n.Name, "topology.kubernetes.io/zone="+zone, "--overwrite")
	return err
}

func (l lab) suiteDir(p part) string { return l.path("conformance", p.Name) }
func (l lab) suiteLog(p part) string { return filepath.Join(l.suiteDir(p), "output.log") }

// runSuite runs the specs of a part and returns how each of them ended.
func (l lab) runSuite(ctx context.Context, part part, o conformanceOptions, bin string, p *progress) ([]result, error) {
	from, err := findHost(part.From)
	if err != nil {
		return nil, err
	}
	dir := l.suiteDir(part)
	config, err := l.writeSuiteConfig(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "ginkgo"), suiteArgs(part, o, bin, dir, config)...)
	cmd.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+filepath.Join(dir, "images.yaml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	log, err := os.Create(l.suiteLog(part))
	if err != nil {
		return nil, fmt.Errorf("run the suite: %w", err)
	}
	defer log.Close()
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := l.start(from, cmd); err != nil {
		return nil, fmt.Errorf("run the suite: %w", err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // what ginkgo left behind, usually nothing
	read := make(chan struct{})
	go func() {
		defer close(read)
		follow(io.TeeReader(out, log), func(line string) { p.printf("%7s  %s\n", p.total(), line) })
	}()
	err = cmd.Wait() // fails if a spec does
	_ = in.Close()
	<-read
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	results, readErr := readReport(filepath.Join(dir, "report.json"))
	if readErr != nil {
		return nil, errors.Join(err, readErr, fmt.Errorf("see %s", l.suiteLog(part)))
	}
	return results, nil
}

// writeSuiteConfig writes what the suite needs to know about the lab and returns the name of its client configuration.
func (l lab) writeSuiteConfig(dir string) (string, error) {
	s, err := l.loadSettings()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(l.kubeconfig())
	if err != nil {
		return "", fmt.Errorf("run the suite: %w", err)
	}
	// Inside the lab, the API server has its own address.
	inside := strings.ReplaceAll(string(text), fmt.Sprintf("https://127.0.0.1:%d", s.APIPort), apiURL)
	config := filepath.Join(dir, "kubeconfig")
	if err := writeFile(config, []byte(inside)); err != nil {
		return "", err
	}
	return config, writeFile(filepath.Join(dir, "images.yaml"), []byte(repoList))
}

func suiteArgs(part part, o conformanceOptions, bin, dir, config string) []string {
	focus := part.Areas
	if o.focus != "" {
		focus += " .*(" + o.focus + ")"
	}
	args := []string{"--procs=" + strconv.Itoa(o.procs), "-v", "--no-color", "--focus=" + focus, "--output-dir=" + dir, "--json-report=report.json", "--timeout=3h"}
	if part.Not != "" {
		args = append(args, "--skip="+part.Not)
	}
	for _, e := range exceptions() {
		if !o.exceptions || e.Never {
			args = append(args, "--skip="+e.Spec)
		}
	}
	return append(args, filepath.Join(bin, "e2e.test"), "--",
		"--provider=skeleton", "--kubeconfig="+config, "--kubectl-path="+filepath.Join(bin, "kubectl"),
		"--num-nodes="+strconv.Itoa(len(nodes())), "--allowed-not-ready-nodes=0", "--disable-log-dump")
}

// ended matches the line with which ginkgo ends a spec; the spec's name is in the next line.
var ended = regexp.MustCompile(`^(•|S|P|\x{1F4A5}) ?(?:\[([A-Z ]+)\] )?\[([0-9.]+) seconds\]`)

// follow reads the suite's output and says which spec has ended, and how.
func follow(r io.Reader, say func(string)) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 16<<20)
	var m []string
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if m != nil && line != "" {
			verdict := "passed"
			if m[2] != "" {
				verdict = strings.ToLower(m[2])
			}
			if labels := strings.LastIndex(line, " ["); labels > 0 {
				line = line[:labels]
			}
			say(fmt.Sprintf("%s  %s (%s s)", verdict, line, m[3]))
		}
		m = ended.FindStringSubmatch(line)
	}
	_, _ = io.Copy(io.Discard, r) // a line that is too long must not block the suite
}
