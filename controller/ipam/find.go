package ipam

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/config"
)

// find looks for an address for one slot of a claim. It returns the zero address if there is none.
func (t *table) find(claim *Claim, s slot) netip.Addr {
	if s.want.IsValid() {
		return t.unlessRefused(claim, s.want)
	}
	if reserved := t.reservedFor(claim, s.family); len(reserved) > 0 {
		return t.unlessRefused(claim, reserved...)
	}
	if addr := t.findOwn(claim, s.family); addr.IsValid() {
		return addr
	}
	for _, pool := range t.pools {
		if pool.Size(s.family) == 0 || t.refusePool(claim, pool) != "" {
			continue
		}
		if addr := t.next(pool, s.family); addr.IsValid() {
			return addr
		}
	}
	return netip.Addr{}
}

// unlessRefused returns the first of the addresses that the claim can have.
func (t *table) unlessRefused(claim *Claim, addrs ...netip.Addr) netip.Addr {
	for _, addr := range addrs {
		if t.refuseNamed(claim, addr) == nil {
			return addr
		}
	}
	return netip.Addr{}
}

// reservedFor returns the addresses reserved for the Service, sorted. If there are any, it gets one of them or waits
// for it. A Service that asks for another pool by name asks not to use its reservation.
func (t *table) reservedFor(claim *Claim, family config.Family) []netip.Addr {
	var addrs []netip.Addr
	for _, addr := range t.reserved[claim.Service] {
		if config.FamilyOf(addr) == family && (len(claim.Pools) == 0 || slices.Contains(claim.Pools, t.poolOf(addr).Name)) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// findOwn returns an address that others share under the Service's key on terms it agrees with, or one that the Service
// itself gave back lately: nobody is better entitled to it while it cools down.
func (t *table) findOwn(claim *Claim, family config.Family) netip.Addr {
	for _, addr := range slices.Concat(t.joinable(claim, family), t.cooled[claim.Service]) {
		pool := t.poolOf(addr)
		if pool == nil || config.FamilyOf(addr) != family || pool.avoids(addr) || t.refusePool(claim, pool) != "" {
			continue
		}
		if t.refuseNamed(claim, addr) == nil {
			return addr
		}
	}
	return netip.Addr{}
}

// inPoolOrder sorts addresses by the order in which their pools are tried, then by value.
func (t *table) inPoolOrder(addrs []netip.Addr) []netip.Addr {
	rank := func(addr netip.Addr) int { return slices.Index(t.pools, t.poolOf(addr)) }
	slices.SortFunc(addrs, func(a, b netip.Addr) int {
		if ra, rb := rank(a), rank(b); ra != rb {
			return ra - rb
		}
		return a.Compare(b)
	})
	return addrs
}

// next returns the first address of the pool that is anybody's to have. It does not take it.
func (t *table) next(pool *poolState, family config.Family) netip.Addr {
	at := pool.cursors[family]
	for spans := pool.Spans(); at.span < len(spans); at.span, at.addr = at.span+1, (netip.Addr{}) {
		if config.FamilyOf(spans[at.span].From()) != family {
			continue
		}
		if t.nextInSpan(pool, spans[at.span], at) {
			return at.addr
		}
	}
	return netip.Addr{}
}

func (t *table) nextInSpan(pool *poolState, span netipx.IPRange, at *cursor) bool {
	if !at.addr.IsValid() {
		at.addr = span.From()
	}
	for at.addr.IsValid() && at.addr.Compare(span.To()) <= 0 {
		if t.free(pool, at.addr) {
			return true
		}
		at.addr = at.addr.Next()
	}
	return false
}

// free reports whether an address is anybody's to have.
func (t *table) free(pool *poolState, addr netip.Addr) bool {
	if _, taken := t.seats[addr]; taken {
		return false
	}
	if _, reserved := pool.Reservations[addr]; reserved {
		return false
	}
	if _, cooling := t.cooling[addr]; cooling {
		return false
	}
	return !pool.avoids(addr)
}

// avoids reports whether the pool hides an address from those who do not ask for it by name.
func (p *poolState) avoids(addr netip.Addr) bool {
	return p.AvoidBuggy && config.Buggy(addr)
}
