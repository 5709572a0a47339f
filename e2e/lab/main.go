// Command lab makes a real Kubernetes cluster out of network namespaces on one Linux machine: an unmodified control plane, three
// nodes with a containerd and a kubelet each, two routers, and clients inside and outside the LAN.
//
// It has more nodes with FAIRLEAD_NODES=NUMBER, which all commands need as long as it is up.
//
// It may touch: namespaces named fairlead-* (fairlead-NAME-* with FAIRLEAD_LAB=NAME), control groups below fairlead, the folder .lab of the checkout, a cache
// folder, and one listener on the machine's loopback that leads to the API server. The machine's own network is out of
// bounds: there is no link between it and the lab.
//
// Out of scope: Fairlead itself. The lab loads images and runs kubectl and helm; it does not know what they bring.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const usage = `usage: go run ./e2e/lab COMMAND

  up [--kube-proxy=nftables|iptables] [--ipv4-nodes]
                                        make the cluster, or say that it is there; with --ipv4-nodes the nodes report
                                        no IPv6 address
  down [--force]                        remove it
  demo                                  up, install Fairlead from this checkout, fetch a page through an address
  build [--suite]                       build Kubernetes and what else the lab runs, and the suite of conformance, unless
                                        that is in the cache
  packages                              install the Debian packages that the lab and the tests need
  status                                show hosts, addresses, processes and nodes
  exec HOST -- CMD...                   run a command on a host
  kubectl ...  |  helm ...              as the cluster's administrator
  load IMAGE.tar...                     import images into every node
  image --out FILE.tar --name NAME --binary PATH [--entrypoint /NAME]
                                        make an image out of one static binary
  images                                make the lab's own images
  logs HOST [COMPONENT]                 show what a component printed, or which there are
  link HOST up|down|silent|apart        pull the host's cable, lose its frames without a trace, or put it on another switch
                                        with all that are apart
  clock HOST OFFSET [PROGRAM]           let what runs on the host now, or only one program of it, see a time of day that is wrong
                                        by OFFSET, as +1h or -30s; 0 puts it right again
  whohas HOST ADDRESS                   ask the host's LAN who answers for an address, and show every one that does
  failover --address A --cut link|node|process|pod --runs N [--json]
                                        measure how long an address does not answer when its owner is cut
  conformance [--focus REGEXP] [--part services|loadbalancers|routed] [--sample] [--exceptions] [--kube-proxy=nftables|iptables]
                                        [--procs N] make the lab, install Fairlead and run Kubernetes' own networking suite
`

func main() {
	runtime.LockOSThread() // threads that enter namespaces must never be the first: /proc/PID shows that one
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Print(usage)
		return nil
	}
	name, args := args[0], args[1:]
	if name == "probe" {
		c, err := newCaller(args, os.Stdout)
		if err != nil {
			return err
		}
		return c.call(ctx)
	}
	if name == "forward" && len(args) == 2 {
		return forward(args[0], args[1])
	}
	l, err := openLab()
	if err != nil {
		return err
	}
	commands := map[string]func(context.Context, []string) error{
		"up": l.upCommand, "down": l.downCommand, "status": l.statusCommand, "exec": l.execCommand, "load": l.loadCommand,
		"kubectl": l.toolCommand("kubectl"), "helm": l.toolCommand("helm"),
		"image": imageCommand, "images": l.imagesCommand, "logs": l.logsCommand, "link": l.linkCommand,
		"demo": l.demoCommand, "whohas": l.whohasCommand, "failover": l.failoverCommand, "packages": l.packagesCommand, "build": l.buildCommand,
		"conformance": l.conformanceCommand, "clock": l.clockCommand,
	}
	command, ok := commands[name]
	if !ok {
		return fmt.Errorf("no command %q\n\n%s", name, usage)
	}
	return command(ctx, args)
}

func (l lab) upCommand(ctx context.Context, args []string) error {
	want := settings{}
	for _, a := range args {
		mode, ok := strings.CutPrefix(a, "--kube-proxy=")
		switch {
		case a == "--ipv4-nodes":
			want.IPv4Nodes = true
		case ok && validProxy(mode):
			want.KubeProxy = mode
		default:
			return fmt.Errorf("up takes --kube-proxy=nftables or --kube-proxy=iptables, and --ipv4-nodes, not %q", a)
		}
	}
	p := newProgress(os.Stdout)
	err := alone(ctx, p, func() error { return l.up(ctx, want, p) })
	if err != nil {
		return err
	}
	return l.summary(p)
}

func validProxy(mode string) bool { return mode == "" || mode == "nftables" || mode == "iptables" }

func (l lab) buildCommand(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "--suite" {
		_, _, err := l.buildSuite(ctx, newProgress(os.Stdout))
		return err
	}
	if len(args) > 0 {
		return fmt.Errorf("build takes --suite or nothing, not %q", args)
	}
	_, err := l.buildBinaries(ctx, newProgress(os.Stdout), targets())
	return err
}

func (l lab) packagesCommand(ctx context.Context, _ []string) error {
	return installPackages(ctx, newProgress(os.Stdout), "")
}

func (l lab) downCommand(ctx context.Context, args []string) error {
	if len(args) > 1 || (len(args) == 1 && args[0] != "--force") {
		return fmt.Errorf("down takes --force or nothing, not %q", args)
	}
	p := newProgress(os.Stdout)
	return alone(ctx, p, func() error { return l.down(ctx, len(args) == 1, p) })
}

// execCommand becomes the command: its signals, terminal and exit status need no passing on.
func (l lab) execCommand(_ context.Context, args []string) error {
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1:1], args[2:]...)
	}
	if len(args) < 2 {
		return errors.New("usage: lab exec HOST -- CMD [ARG]")
	}
	h, err := findHost(args[0])
	if err != nil {
		return err
	}
	wd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	return onThread(func() error {
		if err := l.enter(h); err != nil {
			return err
		}
		if err := unix.Chdir(wd); err != nil {
			return fmt.Errorf("exec in %s: %w", wd, err)
		}
		return become(args[1], args[1:], os.Environ())
	})
}

// toolCommand becomes kubectl or helm with the lab's kubeconfig.
func (l lab) toolCommand(tool string) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error {
		s, err := l.loadSettings()
		if err != nil {
			return err
		}
		if s.Bin == "" {
			return errors.New("the lab is not up: `go run ./e2e/lab up`")
		}
		env := append(os.Environ(), "KUBECONFIG="+l.kubeconfig())
		return become(filepath.Join(s.Bin, tool), append([]string{tool}, args...), env)
	}
}

func (l lab) loadCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: lab load IMAGE.tar [IMAGE.tar]")
	}
	return l.load(ctx, args...)
}

func (l lab) linkCommand(_ context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: lab link HOST up|down|silent|apart")
	}
	h, err := findHost(args[0])
	if err != nil {
		return err
	}
	return setLink(h, args[1])
}
