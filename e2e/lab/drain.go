package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// drain cordons a node, and if pods is set evicts its pods, as `kubectl drain` does before maintenance. The returned
// function waits until that is done and takes the node into service again. Pods that nobody would start anew elsewhere
// (those of no controller) stay.
func (l lab) drain(ctx context.Context, h host, pods bool) (mend func() error, err error) {
	s, err := l.loadSettings()
	if err != nil {
		return nil, err
	}
	if _, err := l.kubectlOf(ctx, s, "", "cordon", h.Name); err != nil {
		return nil, err
	}
	wait := func() error { return nil }
	if pods {
		if wait, err = l.evict(ctx, s, h); err != nil {
			return nil, err
		}
	}
	return func() error {
		evicted := wait()
		_, err := l.kubectlOf(context.WithoutCancel(ctx), s, "", "uncordon", h.Name)
		return errors.Join(evicted, err)
	}, nil
}

// evict begins to evict a node's pods and returns what waits for the end of it.
func (l lab) evict(ctx context.Context, s settings, h host) (wait func() error, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "kubectl"), "drain", h.Name,
		"--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s", "--pod-selector=app!=tester")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.kubeconfig())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("kubectl drain %s: %w", h.Name, err)
	}
	return func() error {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("kubectl drain %s: %w: %s", h.Name, err, strings.TrimSpace(out.String()))
		}
		return nil
	}, nil
}
