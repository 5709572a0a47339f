package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cut silences a host and returns what mends it.
func (l lab) cut(ctx context.Context, h host, o failoverOptions) (func() error, error) {
	switch o.cut {
	case "pod":
		return l.deletePod(ctx, h, o)
	case "cordon", "drain":
		return l.drain(ctx, h, o.cut == "drain")
	}
	var pids []int
	var err error
	switch o.cut {
	case "process":
		pids, err = processesIn(h, o.process)
		if err == nil && len(pids) == 0 {
			err = fmt.Errorf("no process %q runs on %s: name the announcer's binary with --process", o.process, h.Name)
		}
	case "node":
		pids, err = processesIn(h, "")
	}
	if err != nil {
		return nil, err
	}
	if o.cut != "process" {
		if err := setLink(h, "silent"); err != nil {
			return nil, err
		}
	}
	mend := func() error {
		errs := []error{sendSignal(pids, unix.SIGCONT)}
		if o.cut != "process" {
			errs = append(errs, setLink(h, "up"))
		}
		return errors.Join(errs...)
	}
	return mend, sendSignal(pids, unix.SIGSTOP)
}

// deletePod deletes the announcer's pod of a host, as a rollout or a user would. Its successor comes by itself. The
// returned function waits until the pod has ended.
func (l lab) deletePod(ctx context.Context, h host, o failoverOptions) (ended func() error, err error) {
	s, err := l.loadSettings()
	if err != nil {
		return nil, err
	}
	out, err := l.kubectlOf(ctx, s, "", "get", "pods", "-o", "name", "-n", o.podNS, "-l", o.podLabel, "--field-selector", "spec.nodeName="+h.Name)
	pods := strings.Fields(out)
	if err == nil && len(pods) == 0 {
		err = fmt.Errorf("no pod with the labels %s runs on %s in namespace %s", o.podLabel, h.Name, o.podNS)
	}
	if err == nil {
		_, err = l.kubectlOf(ctx, s, "", append([]string{"delete", "--wait=false", "-n", o.podNS}, pods...)...)
	}
	return func() error {
		_, err := l.kubectlOf(context.WithoutCancel(ctx), s, "", append([]string{"wait", "--for=delete", "--timeout=60s", "-n", o.podNS}, pods...)...)
		return err
	}, err
}

func sendSignal(pids []int, s unix.Signal) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// processesIn lists the processes in a host's network namespace, all or those of one binary's name.
func processesIn(h host, binary string) ([]int, error) {
	var want, have unix.Stat_t
	if err := unix.Stat(netnsPath(h.netnsName()), &want); err != nil {
		return nil, fmt.Errorf("find the processes of %s: %w", h.Name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the processes of %s: %w", h.Name, err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if unix.Stat(filepath.Join("/proc", entry.Name(), "ns", "net"), &have) != nil || have.Ino != want.Ino {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err == nil && (binary == "" || filepath.Base(exe) == binary) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
