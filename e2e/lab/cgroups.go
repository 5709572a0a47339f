package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroupDir is the mount point of the machine's control groups.
const cgroupDir = "/sys/fs/cgroup"

// labCgroup holds one group per node, below it are the pods.
func labCgroup() string { return labName() }

func nodeCgroup(h host) string { return labCgroup() + "/" + h.Name }

// cgroupTrees returns the roots of the control group hierarchies: one with version 2, one per controller
// with version 1.
func cgroupTrees() ([]string, error) {
	if exists(filepath.Join(cgroupDir, "cgroup.controllers")) {
		return []string{cgroupDir}, nil
	}
	dirs, err := filepath.Glob(filepath.Join(cgroupDir, "*", "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	var trees []string
	for _, d := range dirs {
		trees = append(trees, filepath.Dir(d))
	}
	if len(trees) == 0 {
		return nil, fmt.Errorf("no control groups are mounted in %s", cgroupDir)
	}
	return trees, nil
}

// podsWeigh is how many processes of the machine the lab's pods weigh as much as. The control plane and the tests run
// beside the groups and not in one: with a group's own weight all pods of all nodes together had the time of one thread of
// the API server, and a controller took seconds for what is milliseconds of work.
const podsWeigh = 16

// weighCgroup gives a group its share of the processors, where the hierarchy has one: version 1 counts in 1024, 2 in 100.
func weighCgroup(dir string) error {
	for name, one := range map[string]int{"cpu.shares": 1024, "cpu.weight": 100} {
		if path := filepath.Join(dir, name); exists(path) {
			if err := os.WriteFile(path, []byte(strconv.Itoa(podsWeigh*one)), 0o644); err != nil {
				return fmt.Errorf("set the share of the processors: %w", err)
			}
		}
	}
	return nil
}

// makeCgroups creates the node's group in every hierarchy; the kubelet insists that it exists.
func makeCgroups(h host) error {
	trees, err := cgroupTrees()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := os.MkdirAll(filepath.Join(tree, nodeCgroup(h)), 0o755); err != nil {
			return fmt.Errorf("make the control group of %s: %w", h.Name, err)
		}
		if err := furnishCgroup(tree, nodeCgroup(h)); err != nil {
			return fmt.Errorf("make the control group of %s: %w", h.Name, err)
		}
		if err := weighCgroup(filepath.Join(tree, labCgroup())); err != nil {
			return fmt.Errorf("make the control group of %s: %w", h.Name, err)
		}
	}
	return nil
}

// furnishCgroup passes controllers down to a group: with version 2 they must be switched on from the root
// down, with version 1 a new cpuset is empty and cannot hold a process.
func furnishCgroup(tree, group string) error {
	dir := tree
	for _, part := range append(strings.Split(group, "/"), "") {
		if controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err == nil && tree == cgroupDir {
			on := "+" + strings.Join(strings.Fields(string(controllers)), " +")
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(on), 0o644); err != nil {
				return fmt.Errorf("switch controllers on: %w", err)
			}
		}
		child := filepath.Join(dir, part)
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if tree == cgroupDir || part == "" || !exists(filepath.Join(child, name)) {
				continue
			}
			value, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("read the processors: %w", err)
			}
			if err := os.WriteFile(filepath.Join(child, name), value, 0o644); err != nil {
				return fmt.Errorf("set the processors: %w", err)
			}
		}
		dir = child
	}
	return nil
}

// cgroupDirs lists the lab's groups in all hierarchies, deepest first.
func cgroupDirs() ([]string, error) {
	trees, err := cgroupTrees()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, tree := range trees {
		err := filepath.WalkDir(filepath.Join(tree, labCgroup()), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list control groups: %w", err)
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(b, a) })
	return dirs, nil
}

// cgroupPIDs lists the processes in the lab's groups: those of the pods.
func cgroupPIDs() ([]int, error) {
	dirs, err := cgroupDirs()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, d := range dirs {
		text, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue // a threaded group cannot be read; its processes are listed in the group above
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// removeCgroups removes the lab's groups, which must be empty of processes.
func removeCgroups() error {
	dirs, err := cgroupDirs()
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	return nil
}
