package nft

import (
	"hash/fnv"
	"net/netip"
)

// ringSizes are primes, so that every step through a ring visits all of it.
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

// ring is a Maglev table (Eisenbud et al., NSDI 2016, section 3.4): it is the same for the
// same endpoints wherever it is made, each has an even share, and few slots change
// when an endpoint comes or goes. The endpoints must be sorted. More endpoints than
// the largest ring has slots: the last ones get none.
func ring(from []netip.AddrPort) []netip.AddrPort {
	if len(from) == 0 {
		return nil
	}
	size := ringSize(len(from))
	next, skip := make([]uint32, len(from)), make([]uint32, len(from))
	for i, e := range from {
		next[i], skip[i] = walk(e, size)
	}
	out := make([]netip.AddrPort, size)
	for filled := uint32(0); ; {
		for i, e := range from {
			for out[next[i]].IsValid() {
				next[i] = (next[i] + skip[i]) % size
			}
			out[next[i]] = e
			if filled++; filled == size {
				return out
			}
		}
	}
}

// walk is where an endpoint's way through a ring begins, and its step.
func walk(e netip.AddrPort, size uint32) (start, step uint32) {
	h := fnv.New64a()
	h.Write([]byte(rawBackend(e)))
	sum := mix(h.Sum64())
	return uint32(sum>>32) % size, uint32(sum)%(size-1) + 1
}

// mix spreads the bits of similar sums (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
