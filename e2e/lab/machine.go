package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine is what all labs on it share: who is there, and which folders were made for them to mount over.
type machine struct{ dir string }

// thisMachine keeps its state where it is gone after a restart, as the labs are.
var thisMachine = machine{"/run"}

func (m machine) state() string { return filepath.Join(m.dir, "fairlead-labs.made") }

// alone runs f while no other lab of the machine comes or goes.
func (m machine) alone(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(m.dir, "fairlead-labs.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the labs of this machine: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the labs of this machine: %w", err)
	}
	return f()
}

// makePoints makes the folders that a host mounts over and remembers those that were not there, with their parents.
func (m machine) makePoints(points []string) error {
	return m.alone(func() error {
		made, err := m.made()
		if err != nil {
			return err
		}
		before := len(made)
		for _, point := range points {
			for dir := point; !exists(dir); dir = filepath.Dir(dir) {
				made = append(made, dir)
			}
			if err := os.MkdirAll(point, 0o755); err != nil {
				return fmt.Errorf("make %s: %w", point, err)
			}
		}
		if len(made) == before {
			return nil
		}
		return writeFile(m.state(), []byte(strings.Join(made, "\n")+"\n"))
	})
}

// made lists the folders that were made for labs.
func (m machine) made() ([]string, error) {
	text, err := os.ReadFile(m.state())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what the labs made: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// leave takes a lab's file of ownership away. With the last lab goes what was made for them; not earlier, because the
// kernel takes a mount away in every namespace when the folder below it is removed in one.
func (m machine) leave(ownerFile string) error {
	return m.alone(func() error {
		if err := os.Remove(ownerFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", ownerFile, err)
		}
		labs, err := filepath.Glob(filepath.Join(m.dir, "fairlead*-lab.owner"))
		if err != nil || len(labs) > 0 {
			return err
		}
		made, err := m.made()
		if err != nil {
			return err
		}
		slices.SortFunc(made, func(a, b string) int { return len(b) - len(a) }) // what is inside first
		for _, dir := range made {
			_ = os.Remove(dir) // refused, rightly, when the machine has put something into it
		}
		if err := os.Remove(m.state()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", m.state(), err)
		}
		return nil
	})
}
