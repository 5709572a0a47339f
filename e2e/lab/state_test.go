package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAbandonedLab has another checkout's lab in the way: one that runs is left alone, what is left of one that ended
// without `down` is removed.
func TestAbandonedLab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv(labVariable, fmt.Sprintf("test-%08x", rand.Uint32()))
	labAt := func(checkout string) lab { return lab{checkout: checkout, dir: filepath.Join(checkout, ".lab")} }
	mine, other := labAt(t.TempDir()), labAt(t.TempDir())
	host := everyHost()[0]
	t.Cleanup(func() {
		if err := other.remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []func() error{other.claim, other.prepareNamespaceDir, func() error { return other.makeHost(host) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sleep", "1000")
	if err := other.start(host, cmd); err != nil {
		t.Fatal(err)
	}
	p := newProgress(io.Discard)
	if err := mine.mayClaim(t.Context(), p); err == nil || !strings.Contains(err.Error(), "processes: 1") || !exists(netnsPath(host.netnsName())) {
		t.Errorf("another checkout's lab runs, and: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed, and says so
	if err := mine.mayClaim(t.Context(), p); err != nil {
		t.Error(err)
	}
	if exists(netnsPath(host.netnsName())) || exists(other.dir) || exists(ownerFile()) {
		t.Error("something of the abandoned lab is left")
	}
}
