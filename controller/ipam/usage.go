package ipam

import (
	"math"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/config"
)

// Usage is how much of a pool is used.
type Usage struct {
	Pool      string
	Assigned  map[config.Family]int64
	Available map[config.Family]int64
	Holders   []types.NamespacedName // Services that hold an address from the pool: sorted
	Draining  []types.NamespacedName // Services that hold an address from the pool which it would not give today: sorted
}

// Use counts, for each pool of the configuration and in its order, what grants take of it.
func Use(c config.Config, grants []Grant) []Usage {
	usage := make([]Usage, len(c.Pools))
	for i, pool := range c.Pools {
		usage[i] = Usage{Pool: pool.Name, Assigned: map[config.Family]int64{}, Available: map[config.Family]int64{}}
	}
	seen := make(map[netip.Addr]struct{}, len(grants))
	for _, g := range grants {
		for i, addr := range g.Addrs {
			in, ok := c.PoolOf(addr)
			if _, again := seen[addr]; ok && !again {
				usage[in].Assigned[config.FamilyOf(addr)]++
			}
			seen[addr] = struct{}{}
			from := origin(c, g, i)
			if from < 0 {
				continue
			}
			usage[from].Holders = appendOnce(usage[from].Holders, g.Service)
			if !ok || from != in || slices.Contains(g.Kept, addr) {
				usage[from].Draining = appendOnce(usage[from].Draining, g.Service)
			}
		}
	}
	for i, pool := range c.Pools {
		for _, family := range []config.Family{config.IPv4, config.IPv6} {
			usage[i].Available[family] = pool.Size(family)
			if pool.Size(family) < math.MaxInt64 {
				usage[i].Available[family] -= usage[i].Assigned[family]
			}
		}
	}
	return usage
}

// origin returns the position of the pool that an address of a grant came from, -1 if it is gone or unknown.
func origin(c config.Config, g Grant, i int) int {
	if i >= len(g.Pools) || g.Pools[i] == "" {
		return -1
	}
	return c.PoolNamed(g.Pools[i])
}

// appendOnce appends a Service that may be the last one already: grants come one Service after the other.
func appendOnce(services []types.NamespacedName, next types.NamespacedName) []types.NamespacedName {
	if n := len(services); n > 0 && services[n-1] == next {
		return services
	}
	return append(services, next)
}
