package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// become replaces this process by another program.
func become(file string, args, env []string) error {
	full, err := exec.LookPath(file)
	if err != nil {
		return fmt.Errorf("run %s: %w", file, err)
	}
	if err := unix.Exec(full, args, env); err != nil {
		return fmt.Errorf("run %s: %w", file, err)
	}
	return nil
}

// imageCommand makes an image out of one static binary; the Makefile calls it for Fairlead's own.
func imageCommand(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("lab image", flag.ContinueOnError)
	out := flags.String("out", "", "`file` to write, a docker archive")
	name := flags.String("name", "", "image `name` with a tag, as fairlead.dev/speaker:dev")
	binary := flags.String("binary", "", "`path` of the static binary")
	entrypoint := flags.String("entrypoint", "", "`path` of the binary in the image (default: / and its name)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || *name == "" || *binary == "" {
		return errors.New("usage: lab image --out FILE.tar --name NAME --binary PATH [--entrypoint /NAME]")
	}
	if *entrypoint == "" {
		*entrypoint = "/" + filepath.Base(*binary)
	}
	return writeImage(imageSpec{
		Name: *name, Entrypoint: []string{*entrypoint},
		Files: map[string]string{path.Clean(*entrypoint): *binary},
	}, *out)
}

func (l lab) imagesCommand(ctx context.Context, _ []string) error {
	p := newProgress(os.Stdout)
	bin, err := l.buildBinaries(ctx, p, targets())
	if err != nil {
		return err
	}
	files, err := buildImages(ctx, bin)
	if err != nil {
		return err
	}
	p.printf("%s\n", strings.Join(files, "\n"))
	return nil
}

func (l lab) logsCommand(_ context.Context, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("usage: lab logs HOST [COMPONENT]")
	}
	h, err := findHost(args[0])
	if err != nil {
		return err
	}
	if len(args) == 2 {
		f, err := os.Open(l.logFile(h.Name, args[1]))
		if err == nil {
			defer f.Close()
			_, err = io.Copy(os.Stdout, f)
			return err
		}
	}
	logs, err := filepath.Glob(l.logFile(h.Name, "*"))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	var names []string
	for _, f := range logs {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".log"))
	}
	if len(args) == 2 {
		return fmt.Errorf("%s has no log of %q, it has: %s", h.Name, args[1], strings.Join(names, ", "))
	}
	fmt.Println(strings.Join(names, "\n"))
	return nil
}

// statusCommand shows the lab and fails when it is not up and well.
func (l lab) statusCommand(ctx context.Context, _ []string) error {
	s, err := l.loadSettings()
	if err != nil {
		return err
	}
	if s.Bin == "" {
		return errors.New("the lab is not up: `go run ./e2e/lab up`")
	}
	ps, err := l.processes()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tROLE\tADDRESSES\tRUNS")
	for _, h := range hosts() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, h.Role, h.addressList(), programList(ps, h.Name))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	fmt.Printf("\nkubeconfig: %s (the API server answers on 127.0.0.1:%d)\n\n", l.kubeconfig(), s.APIPort)
	if well, why := l.well(ctx, s); !well {
		return fmt.Errorf("the lab is not well: %s", why)
	}
	out, err := l.kubectlOf(ctx, s, "", "get", "nodes", "-o", "wide")
	fmt.Print(out)
	return err
}

func (h host) addressList() string {
	var all []string
	for _, n := range h.NICs {
		v4, v6 := n.Subnet.addresses(n.Last)
		all = append(all, v4.String()+" "+v6.String())
	}
	return strings.Join(all, ", ")
}

// programList names the host's programs with their process numbers; those that ended say so.
func programList(ps []process, hostName string) string {
	var all []string
	for _, p := range ps {
		switch {
		case p.Host != hostName:
		case p.alive():
			all = append(all, fmt.Sprintf("%s(%d)", p.Name, p.PID))
		default:
			all = append(all, p.Name+"(ENDED)")
		}
	}
	return strings.Join(all, " ")
}

// summary says what is there and what to try.
func (l lab) summary(p *progress) error {
	p.printf(`
The cluster is up (%s): control, %d nodes and client on one LAN, remote behind router and router2.
kubeconfig: %s

Try next:
  go run ./e2e/lab kubectl get nodes,pods -A -o wide
  go run ./e2e/lab exec client -- ping -c 1 172.30.0.11
  go run ./e2e/lab status
  go run ./e2e/lab down
`, p.total(), nodeCount(), l.kubeconfig())
	return nil
}
