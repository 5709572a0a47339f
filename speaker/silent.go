package main

import (
	"maps"
	"sync"
)

// silent is the set of nodes whose speakers went silent: announcing finds it
// out, forwarding takes their endpoints out of the rules.
type silent struct {
	rung chan<- struct{} // when the set has changed

	mu    sync.Mutex
	nodes map[string]bool
}

func (s *silent) set(nodes map[string]bool) {
	s.mu.Lock()
	changed := !maps.Equal(s.nodes, nodes)
	s.nodes = nodes
	s.mu.Unlock()
	if changed {
		ring(s.rung)
	}
}

// get returns the set; the caller must not change it.
func (s *silent) get() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes
}
