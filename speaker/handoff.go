package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/speaker/bfd"
)

// handoff is the file by which a speaker that restarts leaves its BFD sessions to the next one on the node. BIRD drops the
// routes of a peer whose BFD session ends, also while it waits for the peer to restart: the session must not end.
type handoff struct{ path string } // "": nothing is left

func newHandoff(dir string) handoff {
	if dir == "" {
		return handoff{}
	}
	return handoff{filepath.Join(dir, "bfd.json")}
}

// leave asks the peers to wait and writes down which of them do. It must come before BGP ends: a path that ends while BGP is
// up would end BGP.
func (h handoff) leave(ctx context.Context, paths *bfd.Room, silence time.Duration) error {
	if h.path == "" || silence == 0 {
		return nil
	}
	text, err := json.Marshal(paths.Rest(ctx, silence))
	if err != nil {
		return fmt.Errorf("leave the BFD sessions to the next speaker: %w", err)
	}
	const ownerOnly = 0o600
	if err := os.WriteFile(h.path, text, ownerOnly); err != nil {
		return fmt.Errorf("leave the BFD sessions to the next speaker: %w", err)
	}
	return nil
}

// take returns what the last speaker left, once: a third one would find it outdated.
func (h handoff) take() ([]bfd.Held, error) {
	if h.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err = errors.Join(err, os.Remove(h.path))
	var held []bfd.Held
	if err == nil {
		err = json.Unmarshal(text, &held)
	}
	if err != nil {
		return nil, fmt.Errorf("take over the BFD sessions of the last speaker: %w", err)
	}
	return held, nil
}
