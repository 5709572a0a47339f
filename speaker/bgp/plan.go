package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Action is what happens to a session.
type Action string

// The actions of a Change. Keep leaves the session alone but for its routes; Retune
// takes over settings that need no new session; Reopen closes it and opens it again.
const (
	Keep   Action = "keep"
	Open   Action = "open"
	Retune Action = "retune"
	Reopen Action = "reopen"
	Close  Action = "close"
)

// Change is what has to be done to one session to get from one Wish to another.
type Change struct {
	Key    string
	Action Action
	// Peer as wished; zero if Action is Close.
	Peer Peer
	// Announce holds new and changed routes, Withdraw the prefixes that go; sorted.
	// After Reopen and Open, Announce holds all of them.
	Announce []Route
	Withdraw []netip.Prefix
}

// Plan returns what leads from have to want, sorted by key: one Change per session that
// is not the same in both. It is pure. A change of routes never leads to any Action but
// Keep.
func Plan(have, want Wish) []Change {
	old, wished := byKey(have.Peers), byKey(want.Peers)
	var changes []Change
	for _, key := range keys(old, wished) {
		was, had := old[key]
		peer, wanted := wished[key]
		change := Change{Key: key, Action: action(was, had, peer, wanted), Peer: peer}
		switch change.Action {
		case Close:
		case Open, Reopen:
			change.Announce = sorted(want.Routes[key])
		default:
			change.Announce, change.Withdraw = diff(have.Routes[key], want.Routes[key])
			if change.Action == Keep && len(change.Announce)+len(change.Withdraw) == 0 {
				continue
			}
		}
		changes = append(changes, change)
	}
	return changes
}

func action(was Peer, had bool, peer Peer, wanted bool) Action {
	switch {
	case !had:
		return Open
	case !wanted:
		return Close
	case !was.sameSession(peer):
		return Reopen
	case !was.Equal(peer):
		return Retune
	}
	return Keep
}

func diff(have, want []Route) (announce []Route, withdraw []netip.Prefix) {
	old := make(map[netip.Prefix]Route, len(have))
	for _, r := range have {
		old[r.Prefix] = r
	}
	for _, r := range want {
		was, had := old[r.Prefix]
		if !had || !was.Equal(r) {
			announce = append(announce, r)
		}
		delete(old, r.Prefix)
	}
	for prefix := range old {
		withdraw = append(withdraw, prefix)
	}
	slices.SortFunc(withdraw, comparePrefix)
	return sorted(announce), withdraw
}

func byKey(peers []Peer) map[string]Peer {
	m := make(map[string]Peer, len(peers))
	for _, p := range peers {
		m[p.Key] = p
	}
	return m
}

func keys(a, b map[string]Peer) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func sorted(routes []Route) []Route {
	return slices.SortedFunc(slices.Values(routes), func(a, b Route) int {
		return comparePrefix(a.Prefix, b.Prefix)
	})
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
