package main

import (
	"slices"
	"sync/atomic"
)

// known is who is alive, from the loop that hears gossip to the one that tells routers.
type known struct {
	rung    chan<- struct{} // when somebody came, left or died
	members atomic.Pointer[[]Member]
}

func (k *known) set(members []Member) {
	before := k.members.Swap(&members)
	same := func(a, b Member) bool { return a.Name == b.Name && a.Life == b.Life }
	if before == nil || !slices.EqualFunc(*before, members, same) {
		ring(k.rung)
	}
}

// get returns the members; not ok while gossip has not had its time to find them. The caller must not change them.
func (k *known) get() ([]Member, bool) {
	members := k.members.Load()
	if members == nil {
		return nil, false
	}
	return *members, true
}
