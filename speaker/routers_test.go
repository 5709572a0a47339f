package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// Where nothing is for routers, Services that change are not read for them; once there was something, its end is.
func TestPeeringReadsNothingForNobody(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	m := openMemory(log, "node1", "")
	reads, some := 0, false
	live := func(context.Context) (Snapshot, error) {
		reads++
		return Snapshot{}, nil
	}
	routing := func(context.Context) (bool, error) { return some, nil }
	m.live.Store(&live)
	m.routing.Store(&routing)
	p := &peering{
		log: log, node: "node1", memory: m, passwords: &passwords{}, room: bgp.New(t.Context(), log), paths: bfd.New(t.Context(), log),
		members: func() ([]Member, bool) { return nil, true }, forwards: func() bool { return true }, planned: make(chan struct{}, 1),
		started: time.Now(), ringed: func() {},
	}
	t.Cleanup(func() { _ = p.room.Leave(); p.paths.Close() })
	for i, step := range []struct {
		some  bool
		reads int
	}{{false, 1}, {false, 1}, {true, 2}, {true, 3}, {false, 4}, {false, 4}} {
		some = step.some
		m.outdated()
		if err := p.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reads != step.reads {
			t.Errorf("step %d: %d reads, want %d", i, reads, step.reads)
		}
	}
}
