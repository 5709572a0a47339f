package nft

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"net/netip"
	"slices"
)

// ringSizes are how large rings can be. Each is a power of two times the one
// before: the kernel scales its hash to a ring's size, so the slots of a larger
// ring are parts of those of a smaller one.
var ringSizes = []uint32{256, 1024, 4096, 16384}

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
// slots change when an endpoint comes or goes, also when the ring's size does.
// The endpoints must be sorted. More endpoints than the largest ring has slots: some get none.
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
	asked []int32   // by slot: how many endpoints it has asked
	order [][]int32 // by slot of the smallest ring: the endpoints, first choice first
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
	r := &matching{
		size: size, seeds: make([]uint64, len(from)), room: make([]int, len(from)), held: make([]bids, len(from)),
		asked: make([]int32, size), order: make([][]int32, ringSizes[0]),
	}
	order := make([]int32, len(from))
	for i, e := range from {
		h := fnv.New64a()
		h.Write([]byte(rawBackend(e)))
		r.seeds[i], order[i] = mix(h.Sum64()), int32(i)
		r.room[i] = int(size) / len(from)
	}
	// What does not divide evenly goes to those whose hash says so.
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(r.seeds[a], r.seeds[b]) })
	for _, i := range order[:int(size)%len(from)] {
		r.room[i]++
	}
	for slot := range r.order {
		r.order[slot] = choices(r.seeds, uint32(slot))
	}
	return r
}

// choices are the endpoints in the order in which a slot of the smallest ring
// wants them. Its parts in larger rings want the same.
func choices(seeds []uint64, slot uint32) []int32 {
	type choice struct {
		rank uint64
		at   int32
	}
	all := make([]choice, len(seeds))
	for i, seed := range seeds {
		all[i] = choice{rank(seed, ringSizes[0], slot), int32(i)}
	}
	slices.SortFunc(all, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.at, b.at))
	})
	out := make([]int32, len(all))
	for i, c := range all {
		out[i] = c.at
	}
	return out
}

// rank is how much an endpoint wants a slot of a ring of some size: foremost
// as much as it wants the slot of the smallest ring that it is a part of, and so on.
func rank(seed uint64, size, slot uint32) uint64 {
	const golden, first, more = 0x9e3779b97f4a7c15, 28, 12
	sum, left := uint64(0), 64
	for _, s := range ringSizes {
		if s > size {
			break
		}
		bits := more
		if s == ringSizes[0] {
			bits = first
		}
		left -= bits
		sum |= mix(seed+uint64(slot/(size/s)+s)*golden) >> (64 - bits) << left
	}
	return sum
}

// ask finds a place for a slot, and then for each one that lost its own by that.
func (r *matching) ask(slot uint32) {
	for {
		order := r.order[slot/(r.size/ringSizes[0])]
		if int(r.asked[slot]) == len(order) {
			return // cannot be: there is room for as many slots as there are
		}
		at := order[r.asked[slot]]
		r.asked[slot]++
		heap.Push(&r.held[at], bid{rank(r.seeds[at], r.size, slot), slot})
		if len(r.held[at]) <= r.room[at] {
			return
		}
		slot = heap.Pop(&r.held[at]).(bid).slot
	}
}

// mix spreads the bits of similar sums (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
