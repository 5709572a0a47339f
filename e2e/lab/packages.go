package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A need is a Debian package and a file that tells that it is installed.
type need struct{ Package, File string }

// needs lists what a lab with that kube-proxy mode is made of.
func needs(kubeProxy string) []need {
	list := []need{
		{"containerd", "/usr/bin/containerd"},
		{"runc", "/usr/sbin/runc"},
		{"containernetworking-plugins", "/usr/lib/cni/bridge"},
		{"frr", "/usr/lib/frr/bgpd"},
		{"bird2", "/usr/sbin/bird"},
		{"nftables", "/usr/sbin/nft"},
		{"conntrack", "/usr/sbin/conntrack"},
		{"iproute2", "/bin/ip"},
		{"iputils-ping", "/bin/ping"},
		{"mount", "/bin/mount"},
		{"curl", "/usr/bin/curl"},
		{"tcpdump", "/usr/bin/tcpdump"},
		{"busybox-static", "/bin/busybox"},
	}
	if kubeProxy == "iptables" {
		list = append(list, need{"iptables", "/usr/sbin/iptables"})
	}
	return list
}

// missing lists the packages of which the telling file is not there.
func missing(needs []need, exists func(string) bool) []string {
	var names []string
	for _, n := range needs {
		if !exists(n.File) {
			names = append(names, n.Package)
		}
	}
	slices.Sort(names)
	return names
}

// installPackages installs what is missing with apt-get. Services that come with the packages are not
// started: the lab runs instances of its own.
func installPackages(ctx context.Context, p *progress, kubeProxy string) error {
	names := missing(needs(kubeProxy), exists)
	if len(names) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("these programs are missing, named as in Debian: %s: install them and try again", strings.Join(names, " "))
	}
	return p.step("install Debian packages: "+strings.Join(names, " "), func() error {
		guard, err := keepServicesStopped()
		if err != nil {
			return err
		}
		defer guard()
		if err := apt(ctx, "update"); err != nil {
			return err
		}
		if err := apt(ctx, append([]string{"install", "-y", "--no-install-recommends"}, names...)...); err != nil {
			return err
		}
		return keepServicesDisabled(ctx, names)
	})
}

// keepServicesDisabled makes sure that systemd, where it is, does not start at the next boot what was installed for the
// lab alone.
func keepServicesDisabled(ctx context.Context, installed []string) error {
	if !exists("/run/systemd/system") {
		return nil
	}
	units := map[string]string{"containerd": "containerd.service", "frr": "frr.service", "bird2": "bird.service"}
	for _, name := range installed {
		if units[name] == "" {
			continue
		}
		if out, err := exec.CommandContext(ctx, "systemctl", "disable", units[name]).CombinedOutput(); err != nil {
			return fmt.Errorf("keep %s from starting at boot: %w: %s", units[name], err, out)
		}
	}
	return nil
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}

// keepServicesStopped answers Debian's question whether a package may start its service with no, until the
// returned function is called. A machine with an answer of its own keeps it.
func keepServicesStopped() (func(), error) {
	const policy = "/usr/sbin/policy-rc.d"
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keep services stopped: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString("#!/bin/sh\nexit 101\n"); err != nil {
		return nil, fmt.Errorf("keep services stopped: %w", err)
	}
	return func() { os.Remove(policy) }, nil
}
