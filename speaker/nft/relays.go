package nft

import (
	"context"
	"errors"
	"fmt"

	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Relays keeps the connections alive of addresses that have come to this node in a
// planned move. The node that had an address before knows its connections, this one does
// not: TCP packets that open none and belong to none known here are passed to that node as
// they came, at its MAC address, and it goes on forwarding them. New connections stay here.
//
// A ring does the same for addresses that routers lead to several nodes at once, and to other ones than before whenever
// one comes or goes: each node passes on what it does not know to the next one, until one knows it or all have
// been asked.
//
// Relays writes into a map of the Table, next to it: an address must not be announced
// before its connections are safe, and a Table may be busy. Where there is no table,
// because something else forwards, there is nothing to keep. Not safe for concurrent use.
type Relays struct {
	wire *wire
	set  setID
}

// OpenRelays connects to the kernel of the calling thread's network namespace and changes nothing.
func OpenRelays() (*Relays, error) { return openRelays(relays) }

// OpenRings is the same for rings, which are apart from what moved here; what moved here goes first.
func OpenRings() (*Relays, error) { return openRelays(rings) }

func openRelays(set setID) (*Relays, error) {
	w, err := dial()
	if err != nil {
		return nil, err
	}
	return &Relays{w, set}, nil
}

// Close ends the connection to the kernel and leaves everything as it is.
func (r *Relays) Close() error { return r.wire.close() }

// Read returns to which node's address packets for each address go; nil if there is no table.
func (r *Relays) Read() (map[netip.Addr]netip.Addr, error) {
	have, err := r.read()
	if err != nil {
		return nil, fmt.Errorf("read the %s of table %s: %w", r.set, TableName, err)
	}
	var out map[netip.Addr]netip.Addr
	for _, f := range families {
		if have[f] != nil && out == nil {
			out = map[netip.Addr]netip.Addr{}
		}
		for at, data := range have[f] {
			out[f.addr(at.key)] = f.addr(data)
		}
	}
	return out, nil
}

// Apply makes exactly want true, by family where there is a table of it. Both addresses of
// a pair must be of one family; a pair that is not is left out. It is idempotent and trusts
// nothing but the kernel.
//
// What conntrack still knows of connections that have ended is forgotten for the addresses that are new or go elsewhere
// now: a client may use a port again that it used here before, at the other node, and what that connection sends here then
// would be taken for the old one's. Not so for rings: nobody says when routers lead connections elsewhere.
func (r *Relays) Apply(ctx context.Context, want map[netip.Addr]netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("apply %s: %w", r.set, err)
	}
	have, err := r.read()
	if err != nil {
		return fmt.Errorf("read the %s of table %s: %w", r.set, TableName, err)
	}
	b := newBatch(r.wire)
	var added []netip.Addr
	for _, f := range families {
		if have[f] == nil {
			continue
		}
		del, add := r.changes(f, have[f], want)
		b.elements(unix.NFT_MSG_DELSETELEM, 0, del)
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, add)
		for _, e := range add {
			added = append(added, f.addr(e.key))
		}
	}
	if b.empty() {
		return nil
	}
	// The table may vanish between reading and writing; who comes next reads again.
	if err := b.commit(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("write the %s of table %s: %w", r.set, TableName, err)
	}
	if r.set == rings {
		return nil
	}
	if err := r.wire.forgetEnded(added); err != nil {
		return fmt.Errorf("forget connections of %d addresses that have ended: %w", len(added), err)
	}
	return nil
}

// changes are the elements of a family to delete and to add, sorted.
func (r *Relays) changes(f family, have map[slot]string, want map[netip.Addr]netip.Addr) (del, add []element) {
	wanted := map[slot]string{}
	for at, to := range want {
		if at.IsValid() && to.IsValid() && familyOf(at) == f && familyOf(to) == f {
			wanted[slot{family: f, set: r.set, key: rawAddr(at)}] = rawAddr(to)
		}
	}
	for at, data := range have {
		if wanted[at] != data {
			del = append(del, element{at, data})
		}
	}
	for at, data := range wanted {
		if have[at] != data {
			add = append(add, element{at, data})
		}
	}
	slices.SortFunc(del, compareKeys)
	slices.SortFunc(add, compareKeys)
	return del, add
}

func compareKeys(a, b element) int { return strings.Compare(a.key, b.key) }

// read lists the elements of each family; nil for a family without a table.
func (r *Relays) read() (have [len(families)]map[slot]string, err error) {
	for _, f := range families {
		for try := 0; ; try++ {
			found := map[slot]string{}
			_, err = r.wire.readElements(f, r.set, func(e element) { found[e.slot] = e.data })
			if err == nil {
				have[f] = found
			}
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, errInterrupted) || try == readTries {
				return have, err
			}
		}
	}
	return have, nil
}
