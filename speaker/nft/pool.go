package nft

// pool gives out numbers from 1 to its size, each once. It goes on behind the
// last one it gave, so that a number that was given back rests a while: what
// packets wrote down under it (session affinity) can be cleared before it
// means something else.
type pool struct {
	taken []uint64
	last  uint32
	size  uint32
}

func newPool(size uint32) pool {
	return pool{taken: make([]uint64, size/64+1), size: size}
}

func (p *pool) has(n uint32) bool { return p.taken[n/64]&(1<<(n%64)) != 0 }

// take reserves a particular number, and tells whether it was free.
func (p *pool) take(n uint32) bool {
	if n == 0 || n > p.size || p.has(n) {
		return false
	}
	p.taken[n/64] |= 1 << (n % 64)
	return true
}

func (p *pool) give(n uint32) { p.taken[n/64] &^= 1 << (n % 64) }

// any reserves a number; 0 means that there is none left.
func (p *pool) any() uint32 {
	for i := uint32(0); i < p.size; i++ {
		n := (p.last+i)%p.size + 1
		if p.take(n) {
			p.last = n
			return n
		}
	}
	return 0
}
