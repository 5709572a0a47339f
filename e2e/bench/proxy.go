package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// proxy is a program that forwards, on a side of its own.
type proxy struct {
	*side
	plane      *plane
	program    string
	args       []string
	env        []string
	table, set string // the nftables table, and its set of all ClusterIPs
	restarts   bool   // see settle
	proc       *process
}

// newKubeProxy is kube-proxy in nftables mode. Settings of conntrack, which are the machine's, it leaves alone.
func newKubeProxy(p *plane, s *side) (*proxy, error) {
	config, err := p.kubeconfig(s)
	if err != nil {
		return nil, err
	}
	return &proxy{side: s, plane: p, program: filepath.Join(p.bin, "kube-proxy"), restarts: true, table: "kube-proxy", set: "cluster-ips", args: []string{
		"--kubeconfig=" + config, "--proxy-mode=nftables", "--hostname-override=" + nodeName, "--cluster-cidr=" + clusterCIDR,
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}}, nil
}

// newFairlead is the speaker as the chart starts it.
func newFairlead(p *plane, s *side, program string) (*proxy, error) {
	config, err := p.kubeconfig(s)
	if err != nil {
		return nil, err
	}
	key := p.path("gossip.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		return nil, fmt.Errorf("write the gossip key: %w", err)
	}
	return &proxy{side: s, plane: p, program: program, table: "fairlead", set: "service-ips", env: []string{"KUBECONFIG=" + config}, args: []string{
		"--node-name=" + nodeName, "--namespace=" + namespace, "--cluster-cidr=" + clusterCIDR, "--gossip-key-file=" + key,
	}}, nil
}

func (p *plane) kubeconfig(s *side) (string, error) {
	path := p.path(s.name + ".kubeconfig")
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: bench, cluster: {server: "https://%s:%d", insecure-skip-tls-verify: true}}]
users: [{name: bench, user: {token: %s}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
current-context: bench
`, s.apiAddress(), apiPort, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	return path, nil
}

// launch starts the program.
func (x *proxy) launch() error {
	proc, err := launch(x.node, x.program, x.plane.path(x.name+".log"), x.env, x.args...)
	if err != nil {
		return err
	}
	x.proc = proc
	proc.account(x.name)
	return nil
}

// coldStart is what a start with nothing in the kernel took.
type coldStart struct {
	Wall time.Duration
	CPU  cpu
}

// start launches the program and waits until the kernel has all of some addresses.
func (x *proxy) start(ctx context.Context, patience time.Duration, have []netip.Addr) (coldStart, error) {
	k, err := openKernel(x.node)
	if err != nil {
		return coldStart{}, err
	}
	defer func() { _ = k.close() }()
	began := time.Now()
	if err := x.launch(); err != nil {
		return coldStart{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(have) > 0 {
		there, err := k.holds(x.table, x.set, have[0])
		if err != nil {
			return coldStart{}, err
		}
		if there {
			have = have[1:]
			continue
		}
		if err := x.proc.running(); err != nil {
			return coldStart{}, err
		}
		select {
		case <-ctx.Done():
			return coldStart{}, fmt.Errorf("wait for %s in the kernel: %w; its last words:\n%s", have[0], ctx.Err(), lastLines(x.proc.log, 10))
		case <-tick.C:
		}
	}
	return coldStart{Wall: time.Since(began)}, nil
}

// forget ends the program and takes its rules away.
func (x *proxy) forget(ctx context.Context) error {
	if x.proc == nil {
		return nil
	}
	err := x.proc.kill()
	x.proc = nil
	for _, family := range []string{"ip", "ip6"} {
		// Old versions cannot delete what may not be there.
		cmd := exec.CommandContext(ctx, "nft", fmt.Sprintf("add table %[1]s %[2]s; delete table %[1]s %[2]s", family, x.table))
		if out, failed := runIn(x.side, cmd); failed != nil {
			err = errors.Join(err, fmt.Errorf("remove the rules: %w: %s", failed, out))
		}
	}
	return err
}

// runIn runs a command on the node.
func runIn(s *side, cmd *exec.Cmd) (string, error) {
	var out []byte
	err := in(s.node, func() error {
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	return string(out), err
}

// settleTime is how long a program that was started takes to have something to do.
const settleTime = 3 * time.Second

// settle makes the program ready for changes. kube-proxy was seen to miss all changes for minutes after it had stood
// still, so it is started anew and finds its rules there.
func (x *proxy) settle(ctx context.Context) error {
	if x.restarts {
		if err := x.proc.kill(); err != nil {
			return err
		}
		if err := x.launch(); err != nil {
			return err
		}
		wait(ctx, settleTime)
	}
	return x.quiet(ctx)
}

// What counts as doing nothing: so much processor time in a second, or so much in each of some seconds in a row.
const (
	idle       = 20 * time.Millisecond
	nearlyIdle = 100 * time.Millisecond
	inARow     = 5
)

// quiet waits until the program does nothing.
func (x *proxy) quiet(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, err := x.proc.cpu()
	if err != nil {
		return err
	}
	for nearly := 0; nearly < inARow; nearly++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now, err := x.proc.cpu()
		if err != nil {
			return err
		}
		used := now.minus(before).total()
		before = now
		if used <= idle {
			return nil
		}
		if used > nearlyIdle {
			nearly = -1
		}
	}
	return nil
}
