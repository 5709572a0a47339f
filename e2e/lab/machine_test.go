package main

import (
	"path/filepath"
	"testing"
)

// TestMountPointsOutliveOneLab has two labs on one machine: what the first one's end removes, the other would lose.
func TestMountPointsOutliveOneLab(t *testing.T) {
	m := machine{t.TempDir()}
	point := filepath.Join(m.dir, "var", "lib", "kubelet")
	owner := func(name string) string { return filepath.Join(m.dir, "fairlead"+name+"-lab.owner") }
	for _, name := range []string{"", "-blue"} {
		if err := writeFile(owner(name), nil); err != nil {
			t.Fatal(err)
		}
		if err := m.makePoints([]string{point}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.leave(owner("")); err != nil {
		t.Fatal(err)
	}
	if !exists(point) {
		t.Fatal("the end of one lab removes a folder that another mounts over")
	}
	if err := m.leave(owner("-blue")); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(m.dir, "var")) || !exists(m.dir) {
		t.Error("the last lab leaves its folders, or takes those of others")
	}
}

func TestMountPointsOfOthersStay(t *testing.T) {
	m := machine{t.TempDir()}
	point := filepath.Join(m.dir, "etc", "frr")
	if err := writeFile(filepath.Join(point, "daemons"), nil); err != nil {
		t.Fatal(err)
	}
	if err := m.makePoints([]string{point}); err != nil {
		t.Fatal(err)
	}
	if err := m.leave("none"); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(point, "daemons")) {
		t.Error("a folder of the machine is gone")
	}
}
