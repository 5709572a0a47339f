package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// stateVersion is written into the file: another version is another layout, and is not read.
const stateVersion = 2

// saveEvery is how often the file is written at most.
const saveEvery = time.Second

// memory is what the announcements depend on, also while there is no API
// server: first what the last speaker on this node wrote to disk, then the cache.
type memory struct {
	log  *slog.Logger
	node string
	path string // "" keeps nothing on disk
	// live reads the cache; it is nil until the cache has everything.
	live atomic.Pointer[func(context.Context) (Snapshot, error)]
	// routing asks the cache whether anything is to be told to routers; it is nil until the cache has everything.
	routing atomic.Pointer[func(context.Context) (bool, error)]
	// stale tells that an object changed since the cache was read.
	stale atomic.Bool

	mu      sync.Mutex // held over what is below
	saved   *Snapshot
	read    bool // saved is from the cache, not from disk
	unsaved bool // saved may be another than what is on disk
	written []byte
	at      time.Time
}

// saveFile is the layout of the file.
type saveFile struct {
	Version  int
	Node     string // that wrote it: a disk may have been cloned
	Snapshot Snapshot
}

// openMemory reads what an earlier speaker wrote. A file that cannot be read is no reason not to start.
func openMemory(log *slog.Logger, node, dir string) *memory {
	m := &memory{log: log, node: node}
	if dir == "" {
		return m
	}
	m.path = filepath.Join(dir, "speaker.json")
	text, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	var file saveFile
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil || file.Version != stateVersion || file.Node != node {
		log.Warn("the last known state is of no use", "file", m.path, "version", file.Version, "node", file.Node, "error", err)
		return m
	}
	m.saved, m.written = &file.Snapshot, text
	return m
}

// errNoState means that nothing is known of the cluster yet.
var errNoState = errors.New("the API server was not reached yet, and no earlier state is on disk")

// outdated tells that an object changed that the announcements depend on: the cache is read again next time. Whatever
// rings a bell for an object calls it first.
func (m *memory) outdated() { m.stale.Store(true) }

// snapshot returns the cache's state and keeps it, or what was kept. Callers share it and must not change it; it is the
// same one, by its pointer, for as long as no object changed.
func (m *memory) snapshot(ctx context.Context) (*Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := m.live.Load()
	if live == nil {
		if m.saved == nil {
			return nil, errNoState
		}
		return m.saved, nil
	}
	if m.stale.Swap(false) || !m.read { // in this order: what changes while the cache is read is read again
		s, err := (*live)(ctx)
		if err != nil {
			m.stale.Store(true)
			return nil, err
		}
		m.saved, m.read, m.unsaved = &s, true, true
	}
	if err := m.save(*m.saved); err != nil {
		m.log.Warn("keep the state for a start without the API server", "error", err)
	}
	return m.saved, nil
}

// withoutRouting reports that there is neither a BGPPeer nor a BGPAdvertisement, for much less than a snapshot costs; not if that
// is not known.
func (m *memory) withoutRouting(ctx context.Context) bool {
	routing := m.routing.Load()
	if routing == nil {
		return false
	}
	some, err := (*routing)(ctx)
	return err == nil && !some
}

// save writes a state that is another than the last. The file appears whole or not at all.
func (m *memory) save(s Snapshot) error {
	if m.path == "" || !m.unsaved || time.Since(m.at) < saveEvery {
		return nil
	}
	text, err := json.Marshal(saveFile{stateVersion, m.node, withoutPasswords(s)})
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	m.at = time.Now()
	if bytes.Equal(text, m.written) {
		m.unsaved = false
		return nil
	}
	const ownerOnly = 0o600
	if err := os.WriteFile(m.path+".new", text, ownerOnly); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if err := os.Rename(m.path+".new", m.path); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	m.written, m.unsaved = text, false
	return nil
}

// notOnDisk stands, in a state from disk, for the Secret of a peer whose password is in the BGPPeer itself. No Secret can have this name.
const notOnDisk = "(the password in the BGPPeer: it is not kept on disk)"

// withoutPasswords leaves out what must not be written to disk. A peer that has a password waits for it then.
func withoutPasswords(s Snapshot) Snapshot {
	s.Routers = slices.Clone(s.Routers)
	for i := range s.Routers {
		if spec := &s.Routers[i].Spec; spec.Password != "" {
			spec.Password, spec.PasswordSecret.Name = "", notOnDisk
		}
	}
	return s
}
