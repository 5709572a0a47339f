package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		if err := moveAway(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// TestChurn is a sample of make churn: endpoints change and the speaker is killed while a client connects.
// No connection fails, and afterwards the kernel's table is the translation.
func TestChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an API server: not in -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	speaker := filepath.Join(t.TempDir(), "speaker")
	if out, err := exec.Command("go", "build", "-o", speaker, "../../speaker").CombinedOutput(); err != nil {
		t.Fatalf("build the speaker: %v\n%s", err, out)
	}
	c := &churn{began: time.Now(), settings: settings{
		speaker: speaker, duration: 20 * time.Second, services: 500, rate: 200, connects: 500, kill: 6 * time.Second,
	}}
	t.Cleanup(c.close)
	if err := c.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(found)
	if found.failures() > 0 || found.connections == 0 || found.changes == 0 || found.kills == 0 {
		t.Errorf("want connections, changes and kills, and no failure")
	}
	checked, err := c.check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(checked)
}
