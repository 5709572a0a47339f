package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// owners remembers which pool declared which addresses first.
type owners struct {
	names []string
	sets  []*netipx.IPSet
}

func (o *owners) add(name string, set *netipx.IPSet) {
	o.names, o.sets = append(o.names, name), append(o.sets, set)
}

// readPool reads one pool. Pools must be read inReadingOrder: earlier holds what those before it declare, and this pool's
// own declaration is added.
func readPool(object v1beta1.IPAddressPool, taken []Taken, earlier *owners) (Pool, []Problem) {
	name := "ipaddresspool/" + object.Name
	pool := Pool{
		Name:       object.Name,
		Labels:     labels.Set(object.Labels),
		AutoAssign: object.Spec.AutoAssign == nil || *object.Spec.AutoAssign,
		AvoidBuggy: object.Spec.AvoidBuggyIPs,
		Deleting:   !object.DeletionTimestamp.IsZero(),
		Yielding:   object.Annotations[DeleteInUse] == "true",
		Cooldown:   max(0, duration(object.Spec.Cooldown)),
	}
	excluded, problems := readExclude(name, object.Spec.Exclude)
	var found []Problem
	pool.ranges, found = readRanges(name, object.Spec.Addresses, excluded, taken)
	problems = append(problems, found...)
	pool.Allocation, found = readAllocation(name, object.Spec.ServiceAllocation)
	problems = append(problems, found...)
	problems = append(problems, pool.fill(name, excluded, earlier)...)
	pool.Reservations, found = pool.readReservations(name, object.Spec.Reservations)
	return pool, append(problems, found...)
}

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

func readExclude(object string, ranges []v1beta1.AddressRange) (*netipx.IPSet, []Problem) {
	var b netipx.IPSetBuilder
	var problems []Problem
	for _, text := range ranges {
		r, err := ParseRange(string(text))
		if err != nil {
			problems = append(problems, Problem{object, v1beta1.ReasonRangeInvalid, "nothing is excluded by " + err.Error()})
			continue
		}
		b.AddRange(r)
	}
	return mustSet(&b), problems
}

// mustSet builds a set from ranges that ParseRange found valid; the builder then has nothing to complain of.
func mustSet(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return set
}

// readRanges returns the ranges that can be used, in the order written.
func readRanges(object string, ranges []v1beta1.AddressRange, excluded *netipx.IPSet, taken []Taken) ([]textRange, []Problem) {
	var usable []textRange
	var problems []Problem
	for _, text := range ranges {
		r, err := ParseRange(string(text))
		if err != nil {
			problems = append(problems, Problem{object, v1beta1.ReasonRangeInvalid, err.Error()})
			continue
		}
		if owner, prefix, ok := conflict(r, excluded, taken); ok {
			problems = append(problems, Problem{object, v1beta1.ReasonRangeRefused, refusal(string(text), owner, prefix)})
			continue
		}
		usable = append(usable, textRange{string(text), r})
	}
	return usable, problems
}

// conflict returns the first thing of the cluster's own that the range holds.
func conflict(r netipx.IPRange, excluded *netipx.IPSet, taken []Taken) (owner string, prefix netip.Prefix, ok bool) {
	var b netipx.IPSetBuilder
	b.AddRange(r)
	b.RemoveSet(excluded)
	set := mustSet(&b)
	for _, t := range taken {
		if set.OverlapsPrefix(t.Prefix) {
			return t.Owner, t.Prefix, true
		}
	}
	return "", netip.Prefix{}, false
}

func refusal(text, owner string, prefix netip.Prefix) string {
	what := prefix.String()
	if prefix.IsSingleIP() {
		what = prefix.Addr().String()
	}
	return fmt.Sprintf("no address is given from %s, because it holds %s of %s: write a smaller range, or add %s to exclude", text, what, owner, what)
}

func readAllocation(object string, from *v1beta1.ServiceAllocation) (*Allocation, []Problem) {
	if from == nil {
		return nil, nil
	}
	namespaces, problems := readSelectors(object, "serviceAllocation.namespaceSelectors", from.NamespaceSelectors)
	services, found := readSelectors(object, "serviceAllocation.serviceSelectors", from.ServiceSelectors)
	return &Allocation{
		Priority:           from.Priority,
		Namespaces:         from.Namespaces,
		NamespaceSelectors: namespaces,
		ServiceSelectors:   services,
	}, append(problems, found...)
}

// fill sets what the pool gives: its ranges without exclusions and without what earlier pools declare.
func (p *Pool) fill(object string, excluded *netipx.IPSet, earlier *owners) []Problem {
	var declared netipx.IPSetBuilder
	for _, r := range p.ranges {
		declared.AddRange(r.IPRange)
	}
	p.declared = mustSet(&declared)
	declared.RemoveSet(excluded)
	set := mustSet(&declared)
	lost, problems := earlier.overlaps(object, set, p.Deleting)
	earlier.add(p.Name, set)

	p.size = map[Family]int64{}
	for _, r := range p.ranges {
		var b netipx.IPSetBuilder
		b.AddRange(r.IPRange)
		b.RemoveSet(excluded)
		b.RemoveSet(lost)
		for _, span := range p.spans { // a range may be written twice
			b.RemoveRange(span)
		}
		p.spans = append(p.spans, mustSet(&b).Ranges()...)
	}
	for _, span := range p.spans {
		family := FamilyOf(span.From())
		p.size[family] = saturatingAdd(p.size[family], spanSize(span))
	}
	if len(p.spans) == 0 && len(p.ranges) > 0 {
		problems = append(problems, Problem{object, v1beta1.ReasonPoolEmpty, "no address is left to give: every range is excluded or another pool's"})
	}
	return problems
}

// overlaps returns the addresses of set that earlier pools declare, with a problem for each of those pools.
func (o *owners) overlaps(object string, set *netipx.IPSet, deleting bool) (*netipx.IPSet, []Problem) {
	var lost netipx.IPSetBuilder
	var problems []Problem
	for i, other := range o.sets {
		if !set.Overlaps(other) {
			continue
		}
		var b netipx.IPSetBuilder
		b.AddSet(set)
		b.Intersect(other)
		both := mustSet(&b)
		lost.AddSet(both)
		message := "%s belongs to pool %s, whose name comes first: take it out of one of the two"
		if deleting {
			message = "%s belongs to pool %s: this one is being deleted, so it has it no longer"
		}
		problems = append(problems, Problem{object, v1beta1.ReasonOverlap, fmt.Sprintf(message, rangesText(both), o.names[i])})
	}
	return mustSet(&lost), problems
}

func rangesText(set *netipx.IPSet) string {
	var texts []string
	for _, r := range set.Ranges() {
		text := r.String()
		if prefix, ok := r.Prefix(); ok {
			text = prefix.String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

func (p Pool) readReservations(object string, from []v1beta1.Reservation) (map[netip.Addr]types.NamespacedName, []Problem) {
	reservations := map[netip.Addr]types.NamespacedName{}
	var problems []Problem
	for _, r := range from {
		addr, err := parseAddr(r.Address)
		if err != nil || !p.Contains(addr) {
			problems = append(problems, Problem{object, v1beta1.ReasonReservationInvalid, fmt.Sprintf("%s is reserved for %s/%s but is not an address of this pool: write one that is", r.Address, r.Namespace, r.Name)})
			continue
		}
		reservations[addr] = types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	}
	return reservations, problems
}
