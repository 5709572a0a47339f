package main

import (
	"maps"
	"slices"
	"sync"
)

// ring rings a bell: it never blocks, and a bell that is already ringing stays so.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// dirty is the set of Services that changed since it was last taken, with a
// bell that rings when there are any. It holds names only: whoever takes them reads what they are now.
type dirty struct {
	bell chan struct{}

	mu   sync.Mutex
	keys map[string]struct{}
}

func newDirty() *dirty {
	return &dirty{bell: make(chan struct{}, 1), keys: map[string]struct{}{}}
}

// add marks Services, by "namespace/name", and rings.
func (d *dirty) add(keys ...string) {
	d.mu.Lock()
	for _, key := range keys {
		d.keys[key] = struct{}{}
	}
	d.mu.Unlock()
	ring(d.bell)
}

// take returns the marked Services, sorted, and marks none.
func (d *dirty) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := slices.Sorted(maps.Keys(d.keys))
	clear(d.keys)
	return keys
}
