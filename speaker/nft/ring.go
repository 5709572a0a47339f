package nft

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"net/netip"
	"slices"
)

// ringSizes are how large rings can be.
var ringSizes = []uint32{251, 1021, 4093, 16381}

// ringShare is how many slots each endpoint has at least, except in the
// largest ring: shares then differ by at most a few percent.
const ringShare = 20

// ringSize is the number of slots for so many endpoints.
func ringSize(n int) uint32 {
	for _, size := range ringSizes {
		if uint32(n)*ringShare <= size {
			return size
		}
	}
	return ringSizes[len(ringSizes)-1]
}

// ring gives each slot to the endpoint that a hash ranks first for it
// (rendezvous hashing), but no endpoint more than its share: an endpoint that
// is asked by too many slots keeps those that rank highest and the others go on to their next
// choice. Such a matching is stable and the only one, so it is the
// same for the same endpoints wherever it is made; shares differ by one slot at most; and few
// slots change when an endpoint comes or goes (half as many as in a Maglev
// table of that size). The endpoints must be sorted. More endpoints than the
// largest ring has slots: some get none.
func ring(from []netip.AddrPort) []netip.AddrPort {
	if len(from) == 0 {
		return nil
	}
	r := newRing(from, ringSize(len(from)))
	for s := range r.size {
		r.ask(s)
	}
	out := make([]netip.AddrPort, r.size)
	for i, h := range r.held {
		for _, b := range h {
			out[b.slot] = from[i]
		}
	}
	return out
}

// matching is a ring in the making, by endpoint.
type matching struct {
	size  uint32
	seeds []uint64
	room  []int
	held  []bids
}

// bid is a slot with its rank at the endpoint that holds it.
type bid struct {
	rank uint64
	slot uint32
}

// bids are a heap with the lowest rank on top.
type bids []bid

func (b bids) Len() int           { return len(b) }
func (b bids) Less(i, j int) bool { return b[i].rank < b[j].rank }
func (b bids) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *bids) Push(x any)        { *b = append(*b, x.(bid)) }
func (b *bids) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}

func newRing(from []netip.AddrPort, size uint32) *matching {
	r := &matching{size: size, seeds: make([]uint64, len(from)), room: make([]int, len(from)), held: make([]bids, len(from))}
	order := make([]int, len(from))
	for i, e := range from {
		h := fnv.New64a()
		h.Write([]byte(rawBackend(e)))
		r.seeds[i], order[i] = mix(h.Sum64()), i
		r.room[i] = int(size) / len(from)
	}
	// What does not divide evenly goes to those whose hash says so.
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(r.seeds[a], r.seeds[b]) })
	for _, i := range order[:int(size)%len(from)] {
		r.room[i]++
	}
	return r
}

func (r *matching) rank(endpoint int, slot uint32) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return mix(r.seeds[endpoint] + uint64(slot)*golden)
}

// ask finds a place for a slot, and then for each one that lost its own by that.
func (r *matching) ask(slot uint32) {
	below := ^uint64(0)
	for {
		at, rank := r.next(slot, below)
		if at < 0 {
			return // cannot be: there is room for as many slots as there are
		}
		heap.Push(&r.held[at], bid{rank, slot})
		if len(r.held[at]) <= r.room[at] {
			return
		}
		lost := heap.Pop(&r.held[at]).(bid)
		slot, below = lost.slot, lost.rank
	}
}

// next is the endpoint that ranks a slot highest below a rank.
func (r *matching) next(slot uint32, below uint64) (at int, rank uint64) {
	at = -1
	for i := range r.seeds {
		if x := r.rank(i, slot); x < below && (at < 0 || x > rank) {
			at, rank = i, x
		}
	}
	return at, rank
}

// mix spreads the bits of similar sums (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
