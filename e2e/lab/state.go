package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A lab is the state of a running or stopped cluster: the folder .lab of a checkout.
type lab struct {
	checkout string // the folder with go.mod, absolute
	dir      string // checkout/.lab
}

// ownerFile says which checkout holds the namespaces of this name on this machine.
func ownerFile() string { return filepath.Join(thisMachine.dir, labName()+"-lab.owner") }

// openLab finds the checkout around the working directory. It changes nothing.
func openLab() (lab, error) {
	dir, err := os.Getwd()
	if err != nil {
		return lab{}, fmt.Errorf("find the checkout: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		text, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/fairlead/fairlead\n") {
			l := lab{checkout: d, dir: filepath.Join(d, ".lab")}
			return l, errors.Join(l.checkName(), l.checkNodes())
		}
		if d == filepath.Dir(d) {
			return lab{}, fmt.Errorf("no Fairlead checkout around %s: run this inside one", dir)
		}
	}
}

// checkName refuses a name that is no part of a file's name, and one that this checkout's lab was not made with.
func (l lab) checkName() error {
	name := os.Getenv(labVariable)
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(name) > 20 {
		return fmt.Errorf("%s=%q: a lab's name has at most 20 of a-z, 0-9 and -", labVariable, name)
	}
	s, err := l.loadSettings()
	if err == nil && s.Name != "" && s.Name != labName() {
		err = fmt.Errorf("the lab of this checkout is %s, not %s: set or unset %s, or remove it first", s.Name, labName(), labVariable)
	}
	return err
}

// checkNodes refuses a number of nodes that no lab can have, and one that this checkout's lab does not have.
func (l lab) checkNodes() error {
	if text := os.Getenv(nodesVariable); text != "" && text != strconv.Itoa(nodeCount()) {
		return fmt.Errorf("%s=%q: a lab has from %d to %d nodes", nodesVariable, text, fewestNodes, mostNodes)
	}
	s, err := l.loadSettings()
	if have := max(s.Nodes, fewestNodes); err == nil && s.Name != "" && have != nodeCount() {
		err = fmt.Errorf("the lab of this checkout has %d nodes, not %d: set %[3]s=%[1]d, or remove it first", have, nodeCount(), nodesVariable)
	}
	return err
}

func (l lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

// hostDir is the host's own folder; the host itself sees it as hostState.
func (l lab) hostDir(h host) string { return l.path("hosts", h.Name) }

// hostState is where a host sees its own folder of .lab.
const hostState = "/run/lab"

func (l lab) kubeconfig() string { return l.path("kubeconfig") }

// settings is what `up` was asked for. A lab that is up keeps its settings until `down`.
type settings struct {
	Name      string `json:"name"`      // of the lab: labName
	Nodes     int    `json:"nodes"`     // how many; nodeCount
	KubeProxy string `json:"kubeProxy"` // "", "nftables" or "iptables"
	IPv4Nodes bool   `json:"ipv4Nodes"` // the nodes report no IPv6 address
	Complete  bool   `json:"complete"`  // the last `up` came to its end
	APIPort   int    `json:"apiPort"`   // of the API server on 127.0.0.1 of the machine
	Bin       string `json:"bin"`       // folder of the binaries
}

// sameLab tells whether two settings ask for the same lab.
func (s settings) sameLab(other settings) bool {
	return s.KubeProxy == other.KubeProxy && s.IPv4Nodes == other.IPv4Nodes
}

// loadSettings returns the zero settings when there is no lab.
func (l lab) loadSettings() (settings, error) {
	var s settings
	text, err := os.ReadFile(l.path("lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the lab's settings: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read the lab's settings: %w", err)
	}
	return s, nil
}

func (l lab) saveSettings(s settings) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("save the lab's settings: %w", err)
	}
	return writeFile(l.path("lab.json"), append(text, '\n'))
}

// writeFile writes a file, and the folders above it, readable by root alone: several hold keys.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// owner returns the .lab folder that holds the namespaces of this machine, "" when nobody does.
func owner() (string, error) {
	text, err := os.ReadFile(ownerFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read who owns the lab: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// mayClaim refuses when another checkout's lab runs on this machine: the names of the namespaces are fixed. Of one whose
// processes have all ended, with the session or the terminal they were started in, it removes what is left.
func (l lab) mayClaim(ctx context.Context, p *progress) error {
	other, err := owner()
	if err != nil {
		return err
	}
	if other != "" && other != l.dir && anyNamespace() {
		return l.supersede(ctx, lab{checkout: filepath.Dir(other), dir: other}, p)
	}
	if other == "" && anyNamespace() && !exists(l.dir) {
		return errors.New("network namespaces named " + prefix() + "* exist that no lab owns up to: " +
			"if nothing of yours uses them, remove them with `go run ./e2e/lab down --force`")
	}
	return nil
}

// supersede removes another checkout's lab unless something of it runs.
func (l lab) supersede(ctx context.Context, other lab, p *progress) error {
	pids, err := other.pids()
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("the lab of another checkout runs on this machine (%s, processes: %d), and there can be only one of a name: "+
			"name this one with "+labVariable+"=NAME, or end the other there with `go run ./e2e/lab down`", other.dir, len(pids))
	}
	return p.step("remove what is left of the lab of "+other.checkout+", of which nothing runs any more", func() error { return other.remove(ctx) })
}

// claim makes this checkout the one whose lab is on the machine.
func (l lab) claim() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", l.dir, err)
	}
	return writeFile(ownerFile(), []byte(l.dir+"\n"))
}

// lockFile is held by the one `up` or `down` of this lab that is at work.
func lockFile() string { return "/run/" + labName() + "-lab.lock" }

// alone runs f while no other command changes the lab; it waits for its turn.
func alone(ctx context.Context, p *progress, f func() error) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces: run it as root")
	}
	lock, err := os.OpenFile(lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the lab: %w", err)
	}
	defer lock.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock the lab: %w", err)
		}
		if !said {
			p.printf("Another command is changing the lab: waiting for it to end.\n")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lock the lab: %w", ctx.Err())
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
