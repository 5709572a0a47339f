package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// clocks is what a process sees.
type clocks struct {
	Wall  time.Time
	Since time.Duration // after its start, by the monotonic clock
}

// TestMain lets this program tell the time for TestSetClock.
func TestMain(m *testing.M) {
	if os.Getenv("LAB_TELLS_TIME") == "" {
		os.Exit(m.Run())
	}
	start := time.Now()
	out := json.NewEncoder(os.Stdout)
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		now := time.Now()
		if out.Encode(clocks{now, now.Sub(start)}) != nil {
			os.Exit(1)
		}
	}
}

// What cannot be set is refused, and so is every clock of a machine whose code for it is not known.
func TestClockOffsets(t *testing.T) {
	if _, err := clockCode(time.Hour); (err == nil) != (runtime.GOARCH == "amd64") {
		t.Errorf("an hour: %v", err)
	}
	for _, offset := range []time.Duration{1500 * time.Millisecond, 100 * 365 * 24 * time.Hour, -100 * 365 * 24 * time.Hour} {
		if _, err := clockCode(offset); err == nil {
			t.Errorf("%s is accepted", offset)
		}
	}
}

// A process whose clock is set sees another time of day, and the time that passes as before.
func TestSetClock(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LAB_TELLS_TIME=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(out)
	ask := func() (seen clocks) {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		if err := answers.Decode(&seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	last := ask().Since
	for _, offset := range []time.Duration{0, 36 * time.Hour, -time.Hour, 30 * time.Second, 0} {
		if err := setClock(t.Context(), cmd.Process.Pid, offset); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		seen := ask()
		after := time.Now()
		if seen.Wall.Before(before.Add(offset)) || seen.Wall.After(after.Add(offset)) {
			t.Errorf("with an offset of %s it is %s, want between %s and %s", offset, seen.Wall, before.Add(offset), after.Add(offset))
		}
		if seen.Since < last || seen.Since > after.Sub(started) {
			t.Errorf("with an offset of %s %s have passed, want between %s and %s", offset, seen.Since, last, after.Sub(started))
		}
		last = seen.Since
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := setClock(t.Context(), cmd.Process.Pid, time.Hour); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
}
