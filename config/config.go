package config

import (
	"net/netip"
	"slices"
	"sort"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// Objects is everything users wrote, in any order, and what the cluster itself uses.
type Objects struct {
	Pools []v1beta1.IPAddressPool
	L2    []v1beta1.L2Advertisement

	Peers       []v1beta1.BGPPeer
	BGP         []v1beta1.BGPAdvertisement
	Profiles    []v1beta1.BFDProfile
	Communities []v1beta1.Community

	Taken []Taken // who only wants to know where an address belongs leaves it empty
}

// Taken is an address or a network that belongs to the cluster and can therefore be no Service's external address.
type Taken struct {
	Prefix netip.Prefix
	Owner  string // for people: "node node1", "Service CIDR kubernetes"
}

// Config is what users' objects mean. It is made by Read and not changed afterwards.
type Config struct {
	Pools []Pool    // by name
	L2    []L2      // by name
	Peers []BGPPeer // by name
	BGP   []BGP     // by name

	index []indexed // all spans of all pools, by address: a binary search finds an address's pool
}

type indexed struct {
	netipx.IPRange
	pool int
}

// Read turns objects into values. What cannot be used is left out and is a Problem, the rest works. The result does not
// depend on the order of the objects; problems are sorted.
func Read(objects Objects) (Config, []Problem) {
	var c Config
	var problems []Problem
	earlier := owners{}
	for _, object := range inReadingOrder(objects.Pools) {
		pool, found := readPool(object, objects.Taken, &earlier)
		c.Pools = append(c.Pools, pool)
		problems = append(problems, found...)
	}
	slices.SortFunc(c.Pools, func(a, b Pool) int { return strings.Compare(a.Name, b.Name) })
	for _, object := range sortedByName(objects.L2, func(a v1beta1.L2Advertisement) string { return a.Name }) {
		l2, found := readL2(object, objects.Pools)
		c.L2 = append(c.L2, l2)
		problems = append(problems, found...)
	}
	c.index = makeIndex(c.Pools)
	problems = append(problems, c.readBGP(objects)...)
	SortProblems(problems)
	return c, problems
}

func sortedByName[T any](objects []T, name func(T) string) []T {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return sorted
}

// inReadingOrder sorts pools by name, those being deleted last: a pool that is made in place of one gets the addresses.
func inReadingOrder(pools []v1beta1.IPAddressPool) []v1beta1.IPAddressPool {
	sorted := sortedByName(pools, func(p v1beta1.IPAddressPool) string { return p.Name })
	going := func(p v1beta1.IPAddressPool) bool { return !p.DeletionTimestamp.IsZero() }
	return slices.Concat(slices.DeleteFunc(slices.Clone(sorted), going), slices.DeleteFunc(slices.Clone(sorted), func(p v1beta1.IPAddressPool) bool { return !going(p) }))
}

func makeIndex(pools []Pool) []indexed {
	var index []indexed
	for i, pool := range pools {
		for _, span := range pool.spans {
			index = append(index, indexed{span, i})
		}
	}
	slices.SortFunc(index, func(a, b indexed) int { return a.From().Compare(b.From()) })
	return index
}

// PoolOf returns the position in Pools of the pool that gives the address. At most one does: overlaps are resolved.
func (c Config) PoolOf(addr netip.Addr) (int, bool) {
	i := sort.Search(len(c.index), func(i int) bool { return addr.Less(c.index[i].From()) })
	if i == 0 || !c.index[i-1].Contains(addr) {
		return 0, false
	}
	return c.index[i-1].pool, true
}

// PoolNamed returns the position in Pools of the pool of that name, -1 if there is none.
func (c Config) PoolNamed(name string) int {
	i, found := slices.BinarySearchFunc(c.Pools, name, func(p Pool, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return -1
	}
	return i
}
