package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWeighCgroup asserts that the share is written in the words of the hierarchy, and nowhere else.
func TestWeighCgroup(t *testing.T) {
	for file, want := range map[string]string{"cpu.shares": "16384", "cpu.weight": "1600", "memory.limit": "1"} {
		dir := t.TempDir()
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := weighCgroup(dir); err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(path)
		if err != nil || string(have) != want {
			t.Errorf("%s holds %q (%v), want %q", file, have, err, want)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
			t.Errorf("made %v", files)
		}
	}
}
