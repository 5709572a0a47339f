package main

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// memory is what the controller knows and the cache does not know yet. The cache lags behind our own writes: without
// this, an address written a moment ago would look free.
type memory struct {
	mu       sync.Mutex
	written  map[types.UID]*corev1.Service // as the API server returned them
	doubtful map[types.UID]*corev1.Service // as they are if a write arrived whose answer did not
	entries  map[types.UID]remembered
}

// remembered is an entry without its Service, good for one resource version.
type remembered struct {
	version string
	entry   entry
	ok      bool
}

func newMemory() *memory {
	return &memory{
		written:  map[types.UID]*corev1.Service{},
		doubtful: map[types.UID]*corev1.Service{},
		entries:  map[types.UID]remembered{},
	}
}

// wrote remembers the answer to a write.
func (m *memory) wrote(service *corev1.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written[service.UID] = service
	delete(m.doubtful, service.UID)
}

// doubt remembers a write that nobody knows the end of: until the cache shows another version of the Service, its
// addresses count as its own, and are written again.
func (m *memory) doubt(change serviceChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubtful[change.service.UID] = change.applied()
}

// read returns the entries of Services that are of interest, in no order, and forgets what is out of date.
func (m *memory) read(cached []*corev1.Service, class string) []entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := newMemory()
	entries := make([]entry, 0, len(cached))
	for _, service := range cached {
		if written, ok := m.written[service.UID]; ok && older(service.ResourceVersion, written.ResourceVersion) {
			next.written[service.UID] = written
			service = written
		}
		known, ok := m.entries[service.UID]
		if !ok || known.version != service.ResourceVersion {
			known = remembered{version: service.ResourceVersion}
			known.entry, known.ok = readEntry(service, class)
			known.entry.service = nil
		}
		next.entries[service.UID] = known
		if doubtful, ok := m.doubtful[service.UID]; ok && doubtful.ResourceVersion == service.ResourceVersion {
			next.doubtful[service.UID] = doubtful
			known.entry, known.ok = readEntry(doubtful, class)
		}
		if known.ok {
			known.entry.service = service
			entries = append(entries, known.entry)
		}
	}
	m.written, m.doubtful, m.entries = next.written, next.doubtful, next.entries
	return entries
}

// older reports whether one resource version comes before another of the same kind. What cannot be compared counts as
// older only if it differs.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	if err != nil {
		return a != b
	}
	return order < 0
}
