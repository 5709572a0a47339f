package main

import (
	"maps"
	"slices"
	"sync"
	"time"
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
	// triggers are when what lies behind the changes happened, as far as that is known.
	triggers map[string][]time.Time
}

func newDirty() *dirty {
	return &dirty{bell: make(chan struct{}, 1), keys: map[string]struct{}{}, triggers: map[string][]time.Time{}}
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

// trigger notes when something happened because of which a Service is about to be marked.
func (d *dirty) trigger(key string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.triggers[key] = append(d.triggers[key], at)
}

// take returns the marked Services, sorted, and when what lies behind them happened, and marks none.
func (d *dirty) take() (keys []string, triggers []time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys = slices.Sorted(maps.Keys(d.keys))
	for _, key := range keys {
		triggers = append(triggers, d.triggers[key]...)
		delete(d.triggers, key)
	}
	clear(d.keys)
	return keys, triggers
}

// names is a set of Services, by "namespace/name". Those that are gone may stay in it.
type names struct {
	mu   sync.Mutex
	keys map[string]struct{}
	all  bool
}

func newNames() *names { return &names{keys: map[string]struct{}{}} }

// include makes every Service belong to the set, or only those that were noted.
func (n *names) include(all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = all
}

// note keeps whether a Service belongs to the set, and tells whether it does or did.
func (n *names) note(key string, belongs bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, did := n.keys[key]
	if belongs {
		n.keys[key] = struct{}{}
	} else {
		delete(n.keys, key)
	}
	return belongs || did || n.all
}

func (n *names) has(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, has := n.keys[key]
	return has || n.all
}
