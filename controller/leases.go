package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// maxLeases bounds what one pool remembers, so that its object stays well below what the API server stores.
const maxLeases = 8192

// lease is who holds or lately held an address of a pool with a cooldown.
type lease struct {
	pool     string
	addr     netip.Addr
	service  types.NamespacedName
	released time.Time // zero: the Service still holds it
}

// readLeases returns what pools remember in their status: what outlives a restart of the controller.
func readLeases(pools []v1beta1.IPAddressPool) []lease {
	var leases []lease
	for _, pool := range pools {
		for _, l := range pool.Status.Leases {
			addr, err := netip.ParseAddr(l.Address)
			namespace, name, ok := strings.Cut(l.Service, "/")
			if err != nil || !ok {
				continue
			}
			entry := lease{pool: pool.Name, addr: addr, service: types.NamespacedName{Namespace: namespace, Name: name}}
			if l.ReleasedAt != nil {
				entry.released = l.ReleasedAt.Time
			}
			leases = append(leases, entry)
		}
	}
	return leases
}

// releases returns the addresses that cool down: those released before, and those whose holder is gone since.
func releases(leases []lease, entries []entry, now time.Time) []ipam.Release {
	if len(leases) == 0 {
		return nil
	}
	held := map[netip.Addr]struct{}{}
	for _, e := range entries {
		for _, addr := range e.claim.Held {
			held[addr] = struct{}{}
		}
	}
	var released []ipam.Release
	for _, l := range leases {
		if _, ok := held[l.addr]; ok {
			continue
		}
		at := l.released
		if at.IsZero() {
			at = now
		}
		released = append(released, ipam.Release{Addr: l.addr, Service: l.service, At: at})
	}
	return released
}

// remember returns the leases to keep: a lease for each address that a Service has in a pool with a cooldown, and those
// that cool down still. next is how long until the first of these is over, zero if none is.
func remember(c config.Config, grants []ipam.Grant, released []ipam.Release, now time.Time) (leases []lease, next time.Duration) {
	if !slices.ContainsFunc(c.Pools, func(p config.Pool) bool { return p.Cooldown > 0 }) {
		return nil, 0
	}
	held := map[netip.Addr]bool{}
	for _, g := range grants {
		for _, addr := range g.Addrs {
			if i, ok := c.PoolOf(addr); ok && c.Pools[i].Cooldown > 0 && !held[addr] {
				held[addr] = true
				leases = append(leases, lease{pool: c.Pools[i].Name, addr: addr, service: g.Service})
			}
		}
	}
	for _, r := range released {
		i, ok := c.PoolOf(r.Addr)
		if !ok || held[r.Addr] {
			continue
		}
		if left := r.At.Add(c.Pools[i].Cooldown).Sub(now); left > 0 {
			leases = append(leases, lease{c.Pools[i].Name, r.Addr, r.Service, r.At})
			if next == 0 || left < next {
				next = left
			}
		}
	}
	return leases, next
}

// statusOf returns the leases of one pool as its status shows them.
func statusOf(leases []lease, pool string) []v1beta1.Lease {
	var found []lease
	for _, l := range leases {
		if l.pool == pool {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, func(a, b lease) int { return cmp.Or(a.addr.Compare(b.addr), a.released.Compare(b.released)) })
	var status []v1beta1.Lease
	for _, l := range found[:min(len(found), maxLeases)] {
		entry := v1beta1.Lease{Address: l.addr.String(), Service: l.service.String()}
		if !l.released.IsZero() {
			entry.ReleasedAt = &metav1.Time{Time: l.released.UTC().Truncate(time.Second)}
		}
		status = append(status, entry)
	}
	return status
}
