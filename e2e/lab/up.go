package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/docs/routers"
)

// A launch is one run of `up`.
type launch struct {
	lab
	settings
	progress *progress
	watched  []watched
}

// A watched program is one whose early end explains why something does not become ready.
type watched struct {
	program program
	ended   <-chan error
}

// up brings the lab up. A lab that is up and well is left alone.
func (l lab) up(ctx context.Context, want settings, p *progress) error {
	if err := l.mayClaim(ctx, p); err != nil {
		return err
	}
	have, err := l.loadSettings()
	if err != nil {
		return err
	}
	well, why := l.well(ctx, have)
	if well && !have.sameLab(want) {
		return fmt.Errorf("the lab is up with --kube-proxy=%q --ipv4-nodes=%v and keeps that: `go run ./e2e/lab down` first", have.KubeProxy, have.IPv4Nodes)
	}
	if well {
		p.printf("The lab is up already.\n")
		return nil
	}
	if why != "" {
		err := p.step("remove what is left of an earlier lab: "+why, func() error { return l.remove(ctx) })
		if err != nil {
			return err
		}
	}
	return l.upAnew(ctx, want, p)
}

// upAnew brings the lab up from nothing. A user who interrupts it gets a clean machine; after a failure everything stays
// as it is, to be looked at.
func (l lab) upAnew(ctx context.Context, want settings, p *progress) error {
	if err := thisMachine.alone(l.claim); err != nil {
		return err
	}
	u := &launch{lab: l, settings: settings{Name: labName(), Nodes: nodeCount(), KubeProxy: want.KubeProxy, IPv4Nodes: want.IPv4Nodes}, progress: p}
	err := u.launch(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		return fmt.Errorf("%w\n\nWhat runs stays, to be looked at (go run ./e2e/lab status, logs HOST COMPONENT); the next up starts anew", err)
	}
	p.printf("Interrupted: cleaning up.\n")
	return errors.Join(errors.New("interrupted"), l.remove(context.WithoutCancel(ctx)))
}

// well says whether the lab is up and answers. The reason it is not is "" when there is nothing at all.
func (l lab) well(ctx context.Context, s settings) (bool, string) {
	if !s.Complete {
		if anyNamespace() || exists(l.path("run")) {
			return false, "it was not complete"
		}
		return false, ""
	}
	ps, err := l.processes()
	if err != nil {
		return false, err.Error()
	}
	for _, p := range ps {
		if !p.alive() {
			return false, p.Name + " on " + p.Host + " has ended"
		}
	}
	if err := l.nodesReady(ctx, s); err != nil {
		return false, err.Error()
	}
	return true, ""
}

func (u *launch) launch(ctx context.Context) error {
	if err := installPackages(ctx, u.progress, u.KubeProxy); err != nil {
		return err
	}
	bin, err := u.buildBinaries(ctx, u.progress, targets())
	if err != nil {
		return err
	}
	u.Bin = bin
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"make the hosts and their networks", u.makeNetwork},
		{"start the routers", u.startRouters},
		{"start the control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler", u.startControl},
		{"start containerd on every node and load the images", u.startContainerd},
		{"start the kubelets and wait for the nodes", u.startKubelets},
		{"start the cluster DNS", u.startDNS},
	} {
		if err := u.progress.step(s.name, func() error { return s.do(ctx) }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	u.Complete = true
	return u.saveSettings(u.settings)
}

func (u *launch) makeNetwork(context.Context) error {
	if err := u.saveSettings(u.settings); err != nil {
		return err
	}
	if err := u.prepareNamespaceDir(); err != nil {
		return err
	}
	for _, s := range subnets() {
		if err := makeSubnet(s); err != nil {
			return err
		}
	}
	for _, h := range hosts() {
		if err := thisMachine.makePoints(mountPoints(h)); err != nil {
			return err
		}
		if err := u.makeHost(h); err != nil {
			return err
		}
		if err := attachHost(h); err != nil {
			return err
		}
	}
	return nil
}

// startProgram starts a program and watches it.
func (u *launch) startProgram(p program) error {
	ended, err := u.run(p)
	if err != nil {
		return err
	}
	u.watched = append(u.watched, watched{p, ended})
	return nil
}

func (u *launch) startRouters(ctx context.Context) error {
	for _, h := range hosts() {
		if err := u.prepareRouter(ctx, h); err != nil {
			return err
		}
		for _, p := range routerPrograms(h) {
			if err := u.startProgram(p); err != nil {
				return err
			}
		}
		if err := u.loadFRR(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// loadFRR waits for the daemons and gives them the manual's configuration.
func (u *launch) loadFRR(ctx context.Context, h host) error {
	if h.Role != roleFRR {
		return nil
	}
	return u.waitFor(ctx, 30*time.Second, "FRR on "+h.Name, func(ctx context.Context) error {
		for _, p := range routerPrograms(h) {
			if _, err := u.output(ctx, h, "test", "-S", "/run/frr/"+p.Name+".vty"); err != nil {
				return fmt.Errorf("%s does not listen yet: %w", p.Name, err)
			}
		}
		_, err := u.output(ctx, h, "vtysh", "-f", "/etc/frr/frr.conf")
		return err
	})
}

func (u *launch) prepareRouter(ctx context.Context, h host) error {
	switch h.Role {
	case roleFRR: // the daemons give up root and then make sockets in /run/frr
		for name, text := range map[string]string{"vtysh.conf": "", "frr.conf": routers.FRR} {
			if err := writeFile(filepath.Join(u.hostDir(h), "etc-frr", name), []byte(text)); err != nil {
				return err
			}
		}
		_, err := u.output(ctx, h, "install", "-d", "-o", "frr", "-g", "frr", "/run/frr")
		return err
	case roleBIRD:
		if err := writeFile(filepath.Join(u.hostDir(h), "etc-bird", "bird.conf"), []byte(routers.BIRD)); err != nil {
			return err
		}
		_, err := u.output(ctx, h, "install", "-d", "/run/bird")
		return err
	default:
		return nil
	}
}

func (u *launch) startControl(ctx context.Context) error {
	listener, err := listenForAPI()
	if err != nil {
		return err
	}
	defer listener.Close()
	u.APIPort = listener.Addr().(*net.TCPAddr).Port
	if err := u.writePKI(time.Now(), u.APIPort); err != nil {
		return err
	}
	h, err := findHost("control")
	if err != nil {
		return err
	}
	if err := u.startForwarder(h, listener); err != nil {
		return err
	}
	for _, p := range controlPrograms(h, u.Bin) {
		if err := u.startProgram(p); err != nil {
			return err
		}
		if p.Name != "kube-apiserver" {
			continue
		}
		// The others give up soon if it cannot be used, and on a busy machine it takes its time.
		err := u.waitFor(ctx, 2*time.Minute, "the API server", func(ctx context.Context) error {
			_, err := u.kubectl(ctx, "", "get", "--raw", "/readyz")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *launch) startForwarder(h host, listener *net.TCPListener) error {
	f, err := listener.File()
	if err != nil {
		return fmt.Errorf("hand the listener over: %w", err)
	}
	defer f.Close()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this command: %w", err)
	}
	p := forwarder(h, self, 3)
	p.Files = []*os.File{f}
	return u.startProgram(p)
}

func (u *launch) startContainerd(ctx context.Context) error {
	images, err := buildImages(ctx, u.Bin)
	if err != nil {
		return err
	}
	for _, h := range nodes() {
		if err := u.writeNodeConfig(h); err != nil {
			return err
		}
		if err := makeCgroups(h); err != nil {
			return err
		}
		if err := u.startProgram(containerdProgram(h)); err != nil {
			return err
		}
	}
	for _, h := range nodes() {
		err := u.waitFor(ctx, time.Minute, "containerd on "+h.Name, func(ctx context.Context) error {
			_, err := u.output(ctx, h, "ctr", "version")
			return err
		})
		if err != nil {
			return err
		}
	}
	return u.load(ctx, images...)
}

func (u *launch) startKubelets(ctx context.Context) error {
	if _, err := u.kubectl(ctx, nodeManifest(), "apply", "-f", "-"); err != nil {
		return err
	}
	for _, h := range nodes() {
		if err := u.startProgram(kubeletProgram(h, u.Bin, u.IPv4Nodes)); err != nil {
			return err
		}
		if u.KubeProxy == "" {
			continue
		}
		if err := u.startProgram(kubeProxyProgram(h, u.Bin, u.KubeProxy)); err != nil {
			return err
		}
	}
	return u.waitFor(ctx, 3*time.Minute, "the nodes", func(ctx context.Context) error { return u.nodesReady(ctx, u.settings) })
}

func (u *launch) startDNS(ctx context.Context) error {
	err := u.waitFor(ctx, time.Minute, "the cluster's first objects", func(ctx context.Context) error {
		_, err := u.kubectl(ctx, dnsManifest, "apply", "-f", "-")
		return err
	})
	if err != nil {
		return err
	}
	return u.waitFor(ctx, 2*time.Minute, "CoreDNS", func(ctx context.Context) error {
		out, err := u.kubectl(ctx, "", "-n", "kube-system", "get", "deployment", "coredns", "-o", "jsonpath={.status.readyReplicas}")
		if err == nil && out != "1" {
			err = errors.New("no replica of the Deployment coredns is ready")
		}
		return err
	})
}

// nodesReady returns nil when every node of the lab is Ready, an error that names those that are not.
func (l lab) nodesReady(ctx context.Context, s settings) error {
	out, err := l.kubectlOf(ctx, s, "", "get", "nodes", "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
	if err != nil {
		return err
	}
	var not []string
	for _, h := range nodes() {
		if !strings.Contains(out, h.Name+"=True\n") {
			not = append(not, h.Name)
		}
	}
	if len(not) > 0 {
		return fmt.Errorf("not Ready: %s", strings.Join(not, ", "))
	}
	return nil
}
