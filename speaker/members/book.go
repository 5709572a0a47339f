package members

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// book is what this node knows about the members. memberlist calls it from its
// own goroutines, so it holds a mutex and never calls back.
type book struct {
	self   string
	bell   chan<- struct{}
	joined func() // a member came: it has not got our meta

	mu      sync.Mutex
	members map[string]Member // but this node
	notes   map[string]note   // metas by name, this node's included
	told    map[string]uint64 // the version of our meta that each member has
	peers   []netip.AddrPort
}

func newBook(self string, bell chan<- struct{}) *book {
	return &book{
		self: self, bell: bell, joined: func() {},
		members: map[string]Member{},
		notes:   map[string]note{self: {name: self}},
		told:    map[string]uint64{},
	}
}

var (
	_ memberlist.EventDelegate = (*eventBook)(nil)
	_ memberlist.Delegate      = (*delegateBook)(nil)
)

// eventBook and delegateBook are the book as memberlist sees it.
type (
	eventBook    struct{ *book }
	delegateBook struct{ *book }
)

// NotifyJoin is called when a member is seen alive, for the first time or again.
func (b eventBook) NotifyJoin(node *memberlist.Node) {
	if b.note(node, Alive) {
		b.joined()
	}
}

// NotifyLeave is called when a member has left or is dead.
func (b eventBook) NotifyLeave(node *memberlist.Node) { b.note(node, Dead) }

// NotifyUpdate is called when a member's address changes.
func (b eventBook) NotifyUpdate(node *memberlist.Node) { b.note(node, Alive) }

// NodeMeta says nothing: 512 bytes are too few, see notes.
func (delegateBook) NodeMeta(int) []byte { return nil }

// GetBroadcasts has nothing to add to memberlist's own datagrams.
func (delegateBook) GetBroadcasts(int, int) [][]byte { return nil }

// NotifyMsg is called with what another member sent: its note.
func (b delegateBook) NotifyMsg(message []byte) { b.read(message) }

// LocalState is all notes, for two members who compare what they know.
func (b delegateBook) LocalState(bool) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var state []byte
	for _, n := range b.notes {
		if n.version > 0 {
			state = n.append(state)
		}
	}
	return state
}

// MergeRemoteState is called with the other's notes.
func (b delegateBook) MergeRemoteState(state []byte, _ bool) { b.read(state) }

// note writes a member down and tells whether that was news.
func (b *book) note(node *memberlist.Node, state State) bool {
	if node.Name == b.self {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	have, known := b.members[node.Name]
	address := addressOf(node)
	if state == Dead && b.notes[node.Name].left {
		state = Left
	}
	if known && have.State == state && have.Address == address {
		return false
	}
	if !known || have.State != state {
		have.Since = time.Now()
	}
	have.Name, have.Address, have.State = node.Name, address, state
	b.members[node.Name] = have
	delete(b.told, node.Name) // it may be another process now, which was told nothing
	ring(b.bell)
	return true
}

// read takes the notes out of a message. Newer ones count, and a note about
// this node that is newer than its own is from a life before this one: it is outdone.
func (b *book) read(message []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range parseNotes(message) {
		have, known := b.notes[n.name]
		switch {
		case n.version <= have.version && known:
		case n.name == b.self:
			have.version = n.version + 1
			b.notes[b.self] = have
			clear(b.told)
			b.joined()
		case !known && len(b.notes) >= mostNotes:
		default:
			b.notes[n.name] = n
			if m, is := b.members[n.name]; is && n.left && m.State != Left {
				m.State, m.Since = Left, time.Now()
				b.members[n.name] = m
			}
			if n.left != have.left || !bytes.Equal(have.meta, n.meta) {
				ring(b.bell)
			}
		}
	}
}

// sayGoodbye writes that this node leaves.
func (b *book) sayGoodbye() {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.notes[b.self]
	have.version, have.left = max(have.version+1, uint64(time.Now().UnixNano())), true
	b.notes[b.self] = have
}

// setMeta writes this node's meta and tells whether it is another than before.
func (b *book) setMeta(meta []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.notes[b.self]
	if have.version > 0 && bytes.Equal(have.meta, meta) {
		return false
	}
	// The clock makes a restarted speaker's notes newer than those of its last life; should the
	// clock have gone back, read outdoes them.
	have.version = max(have.version+1, uint64(time.Now().UnixNano()))
	have.meta = bytes.Clone(meta)
	b.notes[b.self] = have
	ring(b.bell)
	return true
}

// newsFor returns this node's note if a member has not got it.
func (b *book) newsFor(name string) (message []byte, version uint64, news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.notes[b.self]
	if own.version == 0 || b.told[name] == own.version {
		return nil, 0, false
	}
	return own.append(nil), own.version, true
}

func (b *book) wasTold(name string, version uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told[name] = version
}

// setPeers replaces the peers, forgets who is gone and no peer any more, and
// tells whether the peers are others than before.
func (b *book) setPeers(peers []netip.AddrPort) bool {
	sorted := slices.Clone(peers)
	slices.SortFunc(sorted, netip.AddrPort.Compare)
	sorted = slices.Compact(sorted)
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := !slices.Equal(sorted, b.peers)
	b.peers = sorted
	for name, m := range b.members {
		if _, isPeer := slices.BinarySearchFunc(sorted, m.Address, netip.AddrPort.Compare); m.State != Alive && !isPeer {
			delete(b.members, name)
			delete(b.notes, name)
			delete(b.told, name)
			ring(b.bell)
		}
	}
	return changed
}

// missing returns the peers that are no live members.
func (b *book) missing() []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	alive := map[netip.AddrPort]bool{}
	for _, m := range b.members {
		if m.State == Alive {
			alive[m.Address] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(b.peers), func(p netip.AddrPort) bool { return alive[p] })
}

func (b *book) snapshot(self Member) []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	self.Meta = bytes.Clone(b.notes[b.self].meta)
	all := []Member{self}
	for _, m := range b.members {
		m.Meta = bytes.Clone(b.notes[m.Name].meta)
		all = append(all, m)
	}
	sortMembers(all)
	return all
}
