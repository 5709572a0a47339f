package nft

import (
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

// space is a network namespace of a test.
type space struct {
	t  testing.TB
	ns netns.NsHandle
}

func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// newSpace makes an unnamed network namespace, which goes away with the test.
func newSpace(t testing.TB) *space {
	t.Helper()
	needsRoot(t)
	s := &space{t: t}
	inThread(t, func() error {
		ns, err := netns.New()
		s.ns = ns
		return err
	})
	t.Cleanup(func() {
		if err := s.ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// inThread runs f on a thread that nobody uses afterwards.
func inThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// do runs f inside the namespace.
func (s *space) do(f func() error) {
	s.t.Helper()
	inThread(s.t, func() error {
		if err := netns.Set(s.ns); err != nil {
			return err
		}
		return f()
	})
}

// run runs a command inside the namespace and returns what it prints.
func (s *space) run(args ...string) string {
	s.t.Helper()
	var out []byte
	s.do(func() error {
		var err error
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			s.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	})
	return string(out)
}

func (s *space) open(bell chan<- struct{}) *Table {
	s.t.Helper()
	table := s.begin(bell)
	s.t.Cleanup(func() { s.end(table) })
	return table
}

func (s *space) begin(bell chan<- struct{}) *Table {
	s.t.Helper()
	var table *Table
	s.do(func() error {
		var err error
		table, err = Open(slog.New(slog.NewTextHandler(s.t.Output(), nil)), bell)
		return err
	})
	return table
}

func (s *space) end(table *Table) {
	s.t.Helper()
	if err := table.Close(); err != nil {
		s.t.Error(err)
	}
}
