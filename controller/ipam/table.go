package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/config"
)

// table is who sits where while Assign decides. Seats are only ever taken, never freed: what a Service gives up is free
// in the next call.
type table struct {
	config  config.Config
	claims  []*Claim                      // by namespace and name
	kept    [][]netip.Addr                // for each claim what it holds and keeps
	seats   map[netip.Addr]int            // who has an address
	joined  map[netip.Addr][]int          // who else has it: almost always nobody
	sharing map[offer][]netip.Addr        // the addresses that are shared under a key
	ports   map[offer]map[config.Port]int // for how many of these a port is taken

	cooling  map[netip.Addr]Release
	cooled   map[types.NamespacedName][]netip.Addr // addresses that cool down, by the Service that gave them back
	reserved map[types.NamespacedName][]netip.Addr

	verdicts map[verdictKey]refusal // what refuseAll said before

	pools   []*poolState // in the order in which they are tried
	byIndex []*poolState // by position in config.Pools
}

// poolState is a pool with how far it was searched. Seats are only ever taken, so a search never has to go back.
type poolState struct {
	*config.Pool
	used    map[config.Family]int64
	cursors map[config.Family]*cursor
}

// cursor is a place in a pool's spans.
type cursor struct {
	span int
	addr netip.Addr // the zero address: the beginning of the span
}

func newTable(c config.Config, claims []Claim, released []Release, now time.Time) *table {
	sorted := make([]*Claim, len(claims))
	for i := range claims {
		sorted[i] = &claims[i]
	}
	slices.SortFunc(sorted, func(a, b *Claim) int { return compareServices(a.Service, b.Service) })
	t := &table{
		config:   c,
		claims:   sorted,
		kept:     make([][]netip.Addr, len(sorted)),
		seats:    make(map[netip.Addr]int, len(claims)),
		joined:   map[netip.Addr][]int{},
		sharing:  map[offer][]netip.Addr{},
		ports:    map[offer]map[config.Port]int{},
		verdicts: map[verdictKey]refusal{},
		cooling:  map[netip.Addr]Release{},
		cooled:   map[types.NamespacedName][]netip.Addr{},
		reserved: map[types.NamespacedName][]netip.Addr{},
	}
	for i := range c.Pools {
		t.addPool(&c.Pools[i])
	}
	t.pools = slices.Clone(t.byIndex)
	slices.SortFunc(t.pools, func(a, b *poolState) int {
		if a.Before(*b.Pool) {
			return -1
		}
		return 1
	})
	t.addReleases(released, now)
	return t
}

func (t *table) addPool(pool *config.Pool) {
	t.byIndex = append(t.byIndex, &poolState{
		Pool:    pool,
		used:    map[config.Family]int64{},
		cursors: map[config.Family]*cursor{config.IPv4: {}, config.IPv6: {}},
	})
	for addr, service := range pool.Reservations {
		t.reserved[service] = append(t.reserved[service], addr)
	}
	for _, addrs := range t.reserved {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
}

func (t *table) addReleases(released []Release, now time.Time) {
	for _, r := range released {
		pool := t.poolOf(r.Addr)
		if pool == nil || !now.Before(r.At.Add(pool.Cooldown)) {
			continue
		}
		if other, ok := t.cooling[r.Addr]; ok && !laterRelease(r, other) {
			continue
		}
		t.cooling[r.Addr] = r
	}
	for addr, r := range t.cooling {
		t.cooled[r.Service] = append(t.cooled[r.Service], addr)
	}
	for _, addrs := range t.cooled {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
}

// laterRelease orders two releases of one address, so that the order of the list does not matter.
func laterRelease(a, b Release) bool {
	return cmp.Or(a.At.Compare(b.At), compareServices(a.Service, b.Service)) > 0
}

func (t *table) poolOf(addr netip.Addr) *poolState {
	i, ok := t.config.PoolOf(addr)
	if !ok {
		return nil
	}
	return t.byIndex[i]
}

// seatHolders seats every claim at every address it holds, then settles who keeps those that several hold.
func (t *table) seatHolders() {
	held := 0
	for _, claim := range t.claims {
		held += len(claim.Held)
	}
	var crowded []netip.Addr
	var sharers []int
	kept := make([]netip.Addr, 0, held) // one piece of memory for all
	for i, claim := range t.claims {
		start := len(kept)
		for _, addr := range claim.Held {
			if t.take(i, addr) {
				crowded = append(crowded, addr)
			}
			if t.wanted(claim, addr) {
				kept = append(kept, addr)
			}
		}
		t.kept[i] = slices.Clip(kept[start:])
		if claim.Sharing.Key != "" {
			sharers = append(sharers, i)
		}
	}
	slices.SortFunc(crowded, netip.Addr.Compare)
	for _, addr := range slices.Compact(crowded) {
		t.settle(addr)
	}
	for _, i := range sharers {
		for _, addr := range t.kept[i] {
			t.offer(i, addr)
		}
	}
}

// wanted reports whether a claim still wants a held address at all: it does not want a family that it no longer has.
func (t *table) wanted(claim *Claim, addr netip.Addr) bool {
	return !claim.Leaving && (claim.Invalid != "" || slices.Contains(claim.Families, config.FamilyOf(addr)))
}

// settle decides who keeps an address that several claims hold: those that share it by consent. Where there is none, a
// claim that did not change its terms goes before one that did, then the older one.
func (t *table) settle(addr netip.Addr) {
	order := t.seated(addr)
	slices.SortFunc(order, t.byPrecedence)
	var staying []int
	for _, i := range order {
		refused := slices.ContainsFunc(staying, func(j int) bool { return shareRefusal(t.claims[i], t.claims[j]) != "" })
		if refused && !t.claims[i].others() {
			t.kept[i] = slices.DeleteFunc(t.kept[i], func(a netip.Addr) bool { return a == addr })
			continue
		}
		staying = append(staying, i)
	}
	slices.Sort(staying) // so that messages name the same holder each time
	t.seats[addr], t.joined[addr] = staying[0], staying[1:]
}

func (t *table) byPrecedence(i, j int) int {
	a, b := t.claims[i], t.claims[j]
	return cmp.Or(
		-compareBool(a.others(), b.others()),
		compareBool(a.Leaving, b.Leaving),
		compareBool(a.Changed, b.Changed),
		t.byAge(i, j),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// take seats a claim at an address and reports whether somebody sat there already.
func (t *table) take(i int, addr netip.Addr) (crowded bool) {
	if _, taken := t.seats[addr]; taken {
		t.joined[addr] = append(t.joined[addr], i)
		return true
	}
	t.seats[addr] = i
	if pool := t.poolOf(addr); pool != nil {
		pool.used[config.FamilyOf(addr)]++
	}
	return false
}

// seated returns the claims that have an address which somebody has.
func (t *table) seated(addr netip.Addr) []int {
	return append([]int{t.seats[addr]}, t.joined[addr]...)
}

// offer is a key under which addresses of one family are shared.
type offer struct {
	key    string
	family config.Family
}

// offer remembers that an address is shared under its holder's key.
func (t *table) offer(i int, addr netip.Addr) {
	claim := t.claims[i]
	under := offer{claim.Sharing.Key, config.FamilyOf(addr)}
	if under.key == "" || claim.others() {
		return
	}
	if t.ports[under] == nil {
		t.ports[under] = map[config.Port]int{}
	}
	for _, port := range claim.Sharing.Ports {
		t.ports[under][port]++
	}
	if t.seats[addr] == i { // whoever comes later joins an address that is offered already
		t.sharing[under] = append(t.sharing[under], addr)
	}
}

// joinable returns the addresses that are shared under a claim's key, in the order in which their pools are tried;
// none if each of them has a Service with a port of the claim's, so that a key on many equal Services costs no more
// than none.
func (t *table) joinable(claim *Claim, family config.Family) []netip.Addr {
	under := offer{claim.Sharing.Key, family}
	addrs := t.sharing[under]
	for _, port := range claim.Sharing.Ports {
		if t.ports[under][port] >= len(addrs) {
			return nil
		}
	}
	return t.inPoolOrder(addrs)
}

// seat gives a claim an address that find found.
func (t *table) seat(i int, addr netip.Addr) {
	t.take(i, addr)
	t.offer(i, addr)
}
