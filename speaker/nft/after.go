package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// olds are the changed Services as they were. All of them are there, the new
// ones with nil.
func (t *Table) olds(w Wish) map[string]*placed {
	olds := make(map[string]*placed, len(w.Changed))
	for name := range w.Changed {
		olds[name] = nil
		if t.state != nil {
			olds[name] = t.state.services[name]
		}
	}
	if w.Full && t.state != nil {
		for name, p := range t.state.services {
			olds[name] = p
		}
	}
	return olds
}

// clean removes what the last Services left behind where the table's elements
// do not reach: connections and affinity that lead to endpoints that are gone.
func (t *Table) clean(olds map[string]*placed, all bool, rep *Report) error {
	var err, sticky error
	rep.Connections, err = t.disconnect(olds, all)
	if all || anySticky(olds) {
		rep.Sessions, sticky = t.forgetClients()
	}
	return errors.Join(err, sticky)
}

func anySticky(olds map[string]*placed) bool {
	for _, p := range olds {
		if p == nil {
			continue
		}
		for _, t := range p.svc.Targets {
			if t.Affinity != 0 {
				return true
			}
		}
	}
	return false
}

// forgetTries bounds how often entries are listed anew because one expired
// between its listing and its deletion.
const forgetTries = 10

// forgetClients deletes the affinity of clients to endpoints that their target no longer has.
func (t *Table) forgetClients() (int, error) {
	keep := t.state.stickyEndpoints()
	for try := 0; ; try++ {
		var stale []element
		for _, f := range families {
			_, err := t.wire.readElements(f, affinity, func(e element) {
				at := f.addrLen()
				if !keep[native(e.key[at:])>>classBits][f.backendOf(e.data)] {
					stale = append(stale, e)
				}
			})
			if err != nil && !errors.Is(err, errInterrupted) {
				return 0, fmt.Errorf("list session affinity: %w", err)
			}
		}
		if len(stale) == 0 {
			return 0, nil
		}
		b := newBatch(t.wire)
		b.elements(unix.NFT_MSG_DELSETELEM, 0, stale)
		err := b.commit()
		if err == nil {
			return len(stale), nil
		}
		if !errors.Is(err, unix.ENOENT) || try == forgetTries {
			return 0, fmt.Errorf("delete session affinity: %w", err)
		}
	}
}

// stickyEndpoints are the endpoints of each target with affinity.
func (st *state) stickyEndpoints() map[uint32]map[netip.AddrPort]bool {
	out := map[uint32]map[netip.AddrPort]bool{}
	for _, p := range st.services {
		for i, t := range p.svc.Targets {
			if t.Affinity == 0 || p.ids[i] == 0 {
				continue
			}
			set := make(map[netip.AddrPort]bool, len(p.at[i]))
			for _, e := range p.at[i] {
				set[e] = true
			}
			out[p.ids[i]] = set
		}
	}
	return out
}
