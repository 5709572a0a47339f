package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/members"
)

// TestSnapshotIsReadOnce reads the world again only after an object has changed, also one that changes while it is read.
func TestSnapshotIsReadOnce(t *testing.T) {
	m := openMemory(slog.New(slog.DiscardHandler), "node1", "")
	reads := 0
	live := func(context.Context) (Snapshot, error) {
		reads++
		if reads == 2 {
			m.outdated() // in the middle of it
		}
		return Snapshot{}, nil
	}
	m.live.Store(&live)
	var last *Snapshot
	for i, step := range []struct {
		changed bool
		reads   int
	}{{false, 1}, {false, 1}, {true, 2}, {false, 3}, {false, 3}} {
		if step.changed {
			m.outdated()
		}
		before := reads
		s, err := m.snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if reads != step.reads || (s == last) != (reads == before) {
			t.Errorf("step %d: %d reads, the same snapshot: %t; want %d reads", i, reads, s == last, step.reads)
		}
		last = s
	}
}

// TestOnlyFailbackWaitsForTime tells which worlds have to be decided again although nothing changed.
func TestOnlyFailbackWaitsForTime(t *testing.T) {
	for failback, want := range map[v1beta1.Failback]bool{v1beta1.FailbackAuto: false, v1beta1.FailbackNever: false, v1beta1.FailbackAfter: true} {
		w := World{Now: time.Unix(0, 0), Config: config.Config{L2: []config.L2{{}, {Failback: failback}}}}
		if have := w.timed(); have != want {
			t.Errorf("failback %s: %t, want %t", failback, have, want)
		}
	}
}

func TestSettled(t *testing.T) {
	heard := func(state members.State, meta string) members.Member {
		return members.Member{State: state, Meta: []byte(meta)}
	}
	a := announcing{started: time.Now(), peers: 2}
	for name, test := range map[string]struct {
		found []members.Member
		want  bool
	}{
		"alone":                              {[]members.Member{heard(members.Alive, "{}")}, false},
		"one is dead":                        {[]members.Member{heard(members.Alive, "{}"), heard(members.Alive, "{}"), heard(members.Dead, "{}")}, false},
		"one is there, but was not heard of": {[]members.Member{heard(members.Alive, "{}"), heard(members.Alive, "{}"), {State: members.Alive}}, false},
		"all are there":                      {[]members.Member{heard(members.Alive, "{}"), heard(members.Alive, "{}"), heard(members.Alive, "{}")}, true},
	} {
		if have := a.settled(test.found); have != test.want {
			t.Errorf("%s: have %t", name, have)
		}
	}
	a.started = a.started.Add(-settleTime - time.Second)
	if !a.settled(nil) {
		t.Error("it waits for ever")
	}
}
