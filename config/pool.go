package config

import (
	"math"
	"math/big"
	"net/netip"
	"time"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Pool is what an IPAddressPool means. It is made by Read and not changed afterwards.
type Pool struct {
	Name         string
	Labels       labels.Set
	AutoAssign   bool
	AvoidBuggy   bool
	Deleting     bool        // its object is being deleted: it gives no new addresses
	Yielding     bool        // its object may go although Services hold addresses of it: annotation DeleteInUse
	Allocation   *Allocation // nil: every Service may use it
	Reservations map[netip.Addr]types.NamespacedName
	Cooldown     time.Duration

	ranges   []textRange      // as written and usable, before exclusions and overlaps
	declared *netipx.IPSet    // the same, as a set
	spans    []netipx.IPRange // what it gives: disjoint, in the order in which addresses are tried
	size     map[Family]int64
}

// Allocation restricts a pool to some Services.
type Allocation struct {
	Priority           int32 // the lowest first, 0 last
	Namespaces         []string
	NamespaceSelectors Selectors
	ServiceSelectors   Selectors
}

// textRange is a range with the words the user wrote for it.
type textRange struct {
	text string
	netipx.IPRange
}

// Spans returns the ranges the pool gives addresses from, both families, disjoint, in the order in which addresses are
// tried: that of spec.addresses. The caller must not change them.
func (p Pool) Spans() []netipx.IPRange { return p.spans }

// Size returns how many addresses of a family the pool gives in all, at most math.MaxInt64.
func (p Pool) Size(family Family) int64 { return p.size[family] }

// Contains reports whether the pool gives the address: it is in a range, not excluded, not refused, and no earlier pool
// has it.
func (p Pool) Contains(addr netip.Addr) bool {
	for _, span := range p.spans {
		if span.Contains(addr) {
			return true
		}
	}
	return false
}

// Buggy reports whether an address ends in .0 or .255.
func Buggy(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// Before reports whether the pool is tried before another: those with serviceAllocation first, then by priority, then
// by name.
func (p Pool) Before(other Pool) bool {
	a, b := p.rank(), other.rank()
	if a != b {
		return a < b
	}
	return p.Name < other.Name
}

func (p Pool) rank() int64 {
	switch {
	case p.Allocation == nil:
		return math.MaxInt64
	case p.Allocation.Priority == 0:
		return math.MaxInt64 - 1
	}
	return int64(p.Allocation.Priority)
}

// spanSize returns how many addresses a range has, at most math.MaxInt64.
func spanSize(span netipx.IPRange) int64 {
	from, to := span.From().AsSlice(), span.To().AsSlice()
	n := new(big.Int).Sub(new(big.Int).SetBytes(to), new(big.Int).SetBytes(from))
	n.Add(n, big.NewInt(1))
	if !n.IsInt64() {
		return math.MaxInt64
	}
	return n.Int64()
}

func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
