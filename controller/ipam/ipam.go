package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// Claim is what a Service asks for, with what the cluster says about it.
type Claim struct {
	config.Wish
	NamespaceLabels labels.Set

	Invalid string // why the wish cannot be understood; the Service keeps what it holds and gets nothing
	Foreign string // who else writes its status; its addresses are taken, and it gets nothing from us
	NotOurs string // why it is another load balancer's; the same holds
	Leaving bool   // it is no Service of ours any more: its addresses stay taken until its status is cleared
	Changed bool   // its terms of sharing changed since it got its addresses, so it is the one to give way
}

// others reports whether the Service's addresses are not ours to give or take.
func (c *Claim) others() bool { return c.Foreign != "" || c.NotOurs != "" }

// Release is an address that a Service gave back.
type Release struct {
	Addr    netip.Addr
	Service types.NamespacedName
	At      time.Time
}

// Grant is what a Service has after the decision, and why.
type Grant struct {
	Service types.NamespacedName
	Addrs   []netip.Addr // by family as the Service prefers, held ones before new ones
	Pools   []string     // for each address, the pool it came from; "" if nobody knows
	Kept    []netip.Addr // those of its addresses that it would not get today
	OK      bool         // it has what it asks for
	Reason  string       // one of the Reason constants of api/v1beta1
	Message string       // the reason in a sentence, with what to do
}

// Assign returns a grant for each claim, sorted by namespace and name. The order of claims and releases does not matter.
// Claims that wait are served by age, then by name.
func Assign(c config.Config, claims []Claim, released []Release, now time.Time) []Grant {
	t := newTable(c, claims, released, now)
	t.seatHolders()
	grants := make([]Grant, len(t.claims))
	var waiting []int
	var slots []slot // of one claim after the other
	for i := range t.claims {
		d := t.look(i, slots[:0])
		slots = d.slots
		if d.missing() {
			waiting = append(waiting, i)
			continue
		}
		grants[i] = t.grant(d)
	}
	slices.SortFunc(waiting, t.byAge)
	served := make([]decision, len(waiting))
	for n, i := range waiting {
		served[n] = t.serve(t.look(i, nil))
	}
	for _, d := range served { // reasons count what is used: they are given when everybody is served
		t.refuse(&d)
		grants[d.index] = t.grant(d)
	}
	return grants
}

// compareServices orders by namespace, then by name.
func compareServices(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func (t *table) byAge(i, j int) int {
	a, b := t.claims[i], t.claims[j]
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(i, j))
}

// decision is one claim on its way to a grant.
type decision struct {
	claim *Claim
	index int
	kept  []netip.Addr // held, and still its own
	slots []slot       // what it asks for
}

// slot is one address a claim asks for.
type slot struct {
	family config.Family
	want   netip.Addr // asked for by name; the zero address: any of the family
	have   netip.Addr // what fills the slot; the zero address: nothing yet
	failed bool       // nothing was found for it
	why    refusal    // why nothing was
}

// refusal is why a slot stays empty.
type refusal struct{ reason, message string }

// missing reports whether the claim lacks something that it may be given.
func (d decision) missing() bool {
	if d.claim.Invalid != "" || d.claim.others() || d.claim.Leaving {
		return false
	}
	return slices.ContainsFunc(d.slots, func(s slot) bool { return !s.have.IsValid() })
}

// look fills the slots of a claim with what it holds. The slots are appended to those given.
func (t *table) look(i int, slots []slot) decision {
	claim := t.claims[i]
	d := decision{claim: claim, index: i, kept: t.kept[i], slots: slots}
	for _, addr := range claim.Addresses {
		s := slot{family: config.FamilyOf(addr), want: addr}
		if slices.Contains(d.kept, addr) {
			s.have = addr
		}
		d.slots = append(d.slots, s)
	}
	for _, family := range claim.Families {
		if !slices.ContainsFunc(claim.Addresses, func(a netip.Addr) bool { return config.FamilyOf(a) == family }) {
			d.slots = append(d.slots, slot{family: family, have: t.holding(claim, d.kept, family)})
		}
	}
	return d
}

// holding returns the first kept address that will do for a family.
func (t *table) holding(claim *Claim, kept []netip.Addr, family config.Family) netip.Addr {
	for _, addr := range kept {
		if config.FamilyOf(addr) == family && t.fits(claim, addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// fits reports whether a held address is of a pool the claim asks for. It is, too, if it came from such a pool and the
// pool has changed since: then the Service asks for nothing new.
func (t *table) fits(claim *Claim, addr netip.Addr) bool {
	from := recorded(claim, addr)
	if len(claim.Pools) == 0 || slices.Contains(claim.Pools, from) {
		return true
	}
	i, ok := t.config.PoolOf(addr)
	return ok && slices.Contains(claim.Pools, t.config.Pools[i].Name) || !ok && from == ""
}

// recorded returns the pool that a held address is known to have come from, or "".
func recorded(claim *Claim, addr netip.Addr) string {
	i := slices.Index(claim.Held, addr)
	switch {
	case i < 0:
		return ""
	case len(claim.From) == len(claim.Held):
		return claim.From[i]
	case len(claim.From) == 1:
		return claim.From[0]
	}
	return ""
}

// serve looks for what is missing and takes it. Under RequireDualStack it takes all or nothing. Where an address asked
// for by name cannot be had, nothing else is given instead.
func (t *table) serve(d decision) decision {
	found := make([]netip.Addr, len(d.slots))
	named, all := true, true
	for i, s := range d.slots {
		if s.have.IsValid() {
			continue
		}
		found[i] = t.find(d.claim, s)
		if !found[i].IsValid() {
			d.slots[i].failed, all = true, false
			named = named && !s.want.IsValid()
		}
	}
	for i, addr := range found {
		auto := !d.slots[i].want.IsValid()
		if !addr.IsValid() || d.claim.Need == config.NeedAll && !all || auto && !named {
			continue
		}
		d.slots[i].have = addr
		t.seat(d.index, addr)
	}
	return d
}

// refuse says why for each slot for which nothing was found.
func (t *table) refuse(d *decision) {
	for i := range d.slots {
		if s := &d.slots[i]; s.failed {
			s.why = t.whyEmpty(d.claim, s)
		}
	}
}

func (t *table) whyEmpty(claim *Claim, s *slot) refusal {
	asked := []netip.Addr{s.want}
	if !s.want.IsValid() {
		asked = t.reservedFor(claim, s.family)
	}
	for _, addr := range asked {
		if why := t.refuseNamed(claim, addr); why != nil {
			return *why
		}
	}
	return t.refuseAll(claim, s.family)
}

// grant makes the grant of a claim whose slots are filled as far as they can be.
func (t *table) grant(d decision) Grant {
	g := Grant{Service: d.claim.Service}
	switch {
	case d.claim.Leaving:
		g.Reason, g.Message = v1beta1.ReasonAddressReleased, "the Service is no longer of type LoadBalancer"
		return g
	case d.claim.NotOurs != "":
		g.Addrs, g.Reason, g.Message = d.claim.Held, v1beta1.ReasonClassNotOurs, d.claim.NotOurs
		return g
	case d.claim.Foreign != "":
		g.Addrs, g.Reason, g.Message = d.claim.Held, v1beta1.ReasonStatusOwnedByOther, d.claim.Foreign
		return g
	case d.claim.Invalid != "":
		g.Addrs, g.Reason, g.Message = d.kept, v1beta1.ReasonRequestInvalid, d.claim.Invalid+meanwhile(d.kept)
		g.Pools = make([]string, len(g.Addrs))
		for i, addr := range g.Addrs {
			g.Pools[i] = poolName(d.claim, addr, t.poolOf(addr))
		}
		return g
	}
	g.Addrs = d.result()
	g.Pools = make([]string, len(g.Addrs))
	for i, addr := range g.Addrs {
		pool := t.poolOf(addr)
		g.Pools[i] = poolName(d.claim, addr, pool)
		if outdated(d.claim, addr, pool) != "" {
			g.Kept = append(g.Kept, addr)
		}
	}
	g.OK = d.satisfied()
	g.Reason, g.Message = t.explain(d, g)
	return g
}

// satisfied reports whether the claim has what it must have.
func (d decision) satisfied() bool {
	some, all, named := false, true, true
	for _, s := range d.slots {
		filled := s.have.IsValid()
		some, all = some || filled, all && filled
		named = named && (filled || !s.want.IsValid())
	}
	return all || d.claim.Need == config.NeedAny && some && named
}

// result returns the addresses of a claim, family by family. What it holds and no longer asks for it keeps until
// everything it asks for in that family is there.
func (d decision) result() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(d.slots))
	for _, family := range d.claim.Families {
		full := d.full(family)
		for _, addr := range d.kept {
			if config.FamilyOf(addr) == family && (!full || d.fills(addr)) {
				addrs = append(addrs, addr)
			}
		}
		for _, s := range d.slots {
			if s.family == family && s.have.IsValid() && !slices.Contains(addrs, s.have) {
				addrs = append(addrs, s.have)
			}
		}
	}
	return addrs
}

// full reports whether all slots of a family are filled.
func (d decision) full(family config.Family) bool {
	return !slices.ContainsFunc(d.slots, func(s slot) bool { return s.family == family && !s.have.IsValid() })
}

// fills reports whether an address fills a slot.
func (d decision) fills(addr netip.Addr) bool {
	return slices.ContainsFunc(d.slots, func(s slot) bool { return s.have == addr })
}

// poolName returns the name of an address' pool: the one it is in, which may be nil, unless the Service asks for the one it
// came from.
func poolName(claim *Claim, addr netip.Addr, pool *poolState) string {
	from := recorded(claim, addr)
	if pool != nil && (from == "" || !slices.Contains(claim.Pools, from)) {
		return pool.Name
	}
	return from
}
