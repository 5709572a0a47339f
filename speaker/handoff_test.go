package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
)

// What is left is taken once, and a file that makes no sense is taken away, too.
func TestHandoff(t *testing.T) {
	dir := t.TempDir()
	h := newHandoff(dir)
	expectHeld := func(want int, fails bool) {
		t.Helper()
		if held, err := h.take(); len(held) != want || (err != nil) != fails {
			t.Errorf("%d sessions are taken over, %v; want %d, an error: %t", len(held), err, want, fails)
		}
	}
	expectHeld(0, false)
	room := bfd.New(t.Context(), slog.New(slog.DiscardHandler))
	if err := h.leave(t.Context(), room, time.Minute); err != nil {
		t.Fatal(err)
	}
	expectHeld(0, false)
	text := `[{"Peer":"192.0.2.1","Local":"192.0.2.2","Discriminator":7,"Port":50000,"Remote":{"State":3},"Until":60000000000}]`
	for _, file := range []struct {
		text  string
		want  int
		fails bool
	}{{text, 1, false}, {"nonsense", 0, true}} {
		if err := os.WriteFile(filepath.Join(dir, "bfd.json"), []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
		expectHeld(file.want, file.fails)
		expectHeld(0, false)
	}
	if err := h.leave(t.Context(), room, 0); err != nil {
		t.Error(err)
	}
	h = newHandoff("")
	expectHeld(0, false)
	room.Resume([]bfd.Held{{Peer: netip.MustParseAddr("192.0.2.1")}})
}
