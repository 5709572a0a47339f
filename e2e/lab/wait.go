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
	"time"
)

func (u *launch) kubectl(ctx context.Context, input string, args ...string) (string, error) {
	return u.kubectlOf(ctx, u.settings, input, args...)
}

// kubectlOf runs kubectl as the lab's administrator and returns what it prints.
func (l lab) kubectlOf(ctx context.Context, s settings, input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.kubeconfig())
	cmd.Stdin = strings.NewReader(input)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(problem.String()))
	}
	return out.String(), nil
}

// waitFor asks until check returns nil. It gives up after the timeout, or at once when a program ended.
func (u *launch) waitFor(ctx context.Context, timeout time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ended := u.firstEnded(); ended != nil {
			return ended
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w\n%s", what, err, u.tails())
		}
	}
}

// firstEnded returns an error with the log's end of a program that should still be running.
func (u *launch) firstEnded() error {
	for _, w := range u.watched {
		select {
		case err := <-w.ended:
			if err == nil {
				err = errors.New("it exited")
			}
			name, host := w.program.Name, w.program.Host.Name
			log := u.logFile(host, name)
			return fmt.Errorf("%s on %s ended: %w\nits log %s ends with:\n%s", name, host, err, log, tail(log, 15))
		default:
		}
	}
	return nil
}

// tails returns the ends of the newest programs' logs, those that the lab was waiting for.
func (u *launch) tails() string {
	var out strings.Builder
	for _, w := range u.watched[max(0, len(u.watched)-4):] {
		name, host := w.program.Name, w.program.Host.Name
		fmt.Fprintf(&out, "--- %s on %s (%s)\n%s\n", name, host, u.logFile(host, name), tail(u.logFile(host, name), 8))
	}
	return out.String()
}

// output runs a command inside a host and returns all it prints.
func (l lab) output(ctx context.Context, h host, args ...string) (string, error) {
	return l.outputOf(ctx, h, nil, args...)
}

// outputOf is output with an input, which may be nil.
func (l lab) outputOf(ctx context.Context, h host, input *os.File, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	if input != nil {
		cmd.Stdin = input
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.start(h, cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s on %s: %w: %s", args[0], h.Name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}
