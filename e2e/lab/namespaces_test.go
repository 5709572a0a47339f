package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A host has its own name, its own /run and its own network, and leaves nothing behind.
func TestHostIsAMachineOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l := lab{dir: t.TempDir()}
	h := host{Name: fmt.Sprintf("test%08x", rand.Uint32())}
	if err := l.prepareNamespaceDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.removeHost(h); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(l.path("ns"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := l.makeHost(h); err != nil {
		t.Fatal(err)
	}
	out, err := l.output(t.Context(), h, "sh", "-c", "hostname; ls /run; tail -n +3 /proc/net/dev | cut -d: -f1")
	if err != nil {
		t.Fatal(err)
	}
	// Its name, a /run that holds its own folder alone, and no interface but lo.
	if diff := cmp.Diff([]string{h.Name, "lab", "lo"}, strings.Fields(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := os.Hostname(); err != nil || got == h.Name {
		t.Errorf("the machine was renamed to %s (%v)", got, err)
	}
	checkInsiders(t, l, h)
	if err := l.removeHost(h); err != nil {
		t.Error(err)
	}
	if exists(netnsPath(h.netnsName())) || exists(l.mntPath(h)) {
		t.Error("a removed host leaves names behind")
	}
}

// What runs inside a host is found there though nobody noted it, and nothing else is.
func checkInsiders(t *testing.T, l lab, h host) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := l.start(h, cmd); err != nil {
		t.Fatal(err)
	}
	pids, err := l.insiders([]host{h})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{cmd.Process.Pid}, pids); diff != "" {
		t.Errorf("processes inside (-want +got):\n%s", diff)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed, and says so
}
