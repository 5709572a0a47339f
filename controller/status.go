package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// outcome is what follows from a world: what to write, and what to remember and show.
type outcome struct {
	services []serviceChange // by age: who waits longest is served first
	pools    []poolChange
	l2       []l2Change
	routing  []routingChange
	grants   []ipam.Grant
	usage    []ipam.Usage
	leases   []lease
	terms    map[types.NamespacedName]uint64
	next     time.Duration // when time alone changes something; zero: never
}

// serviceChange is what to write into the status of one Service. What it does not name stays.
type serviceChange struct {
	service *corev1.Service
	ingress *[]netip.Addr // nil: stays
	from    *string       // the annotation config.AllocatedFrom; nil: stays, "": goes
	set     []metav1.Condition
	drop    []string // types of conditions to remove
	events  []event
	reason  string // of the decision, for metrics
	first   bool   // the Service gets its first address
	refused bool   // the Service is told anew that it does not get what it asks for
}

type poolChange struct {
	pool    v1beta1.IPAddressPool // with its new status and finalizers
	status  bool                  // the status is another than before
	protect bool                  // the finalizers are
	numbers bool                  // of the status, no more than numbers and the names beside them
	events  []event
}

type l2Change struct {
	l2     v1beta1.L2Advertisement // with its new status
	events []event
}

// event is an Event to send about the object it came with.
type event struct {
	kind   string // Normal or Warning
	reason string
	note   string
}

// decide says what follows from a world.
func decide(w world, namespaces map[string]labels.Set) outcome {
	released := releases(w.leases, w.services, w.now)
	var o outcome
	o.grants = ipam.Assign(w.config, w.claims(namespaces), released, w.now)
	o.terms = w.agreedTerms(o.grants)
	o.usage = ipam.Use(w.config, o.grants)
	o.leases, o.next = remember(w.config, o.grants, released, w.now)
	announcers := readAnnouncers(w.speakers, w.silent)
	for i, e := range w.services { // entries and grants are in one order
		if left := patience - impatience(e, w.now); left > 0 && left < patience && (o.next == 0 || left < o.next) {
			o.next = left
		}
		if change, ok := changeService(e, o.grants[i], announcers, w.now); ok {
			o.services = append(o.services, change)
		}
	}
	slices.SortStableFunc(o.services, func(a, b serviceChange) int {
		return a.service.CreationTimestamp.Compare(b.service.CreationTimestamp.Time)
	})
	o.pools = changePools(w, o)
	o.l2 = changeL2(w)
	o.routing = changeRouting(w)
	for _, peer := range w.routing.peers {
		if left := patience - w.now.Sub(peer.CreationTimestamp.Time); left > 0 && (o.next == 0 || left < o.next) {
			o.next = left
		}
	}
	return o
}

// changeService compares what a Service has with what it should have. ok is false if nothing is to be written.
func changeService(e entry, g ipam.Grant, announcers announcers, now time.Time) (change serviceChange, ok bool) {
	change = serviceChange{service: e.service, reason: g.Reason}
	switch e.role {
	case stranger:
		return change, false
	case leaving:
		change.release(e)
		return change, true
	case ours:
	}
	if e.claim.Foreign == "" {
		change.address(e, g)
	}
	allocated := metav1.Condition{Type: v1beta1.ConditionAllocated, Status: status(g.OK), Reason: g.Reason, Message: g.Message}
	change.condition(allocated, change.ingress != nil, now)
	change.refused = !g.OK && len(change.events) > 0
	if announced, any := announcers.condition(e, g, now); any {
		// A node that takes an address over is news; one more or less that tells routers is not.
		change.condition(announced, announced.Status == metav1.ConditionTrue && announcers.layer2(g) && moved(e, announced), now)
	} else {
		change.remove(v1beta1.ConditionAnnounced)
	}
	return change, change.ingress != nil || change.from != nil || len(change.set) > 0 || len(change.drop) > 0
}

// moved tells whether a Service's addresses are announced by other nodes than its condition says.
func moved(e entry, announced metav1.Condition) bool {
	have := meta.FindStatusCondition(e.service.Status.Conditions, announced.Type)
	return have == nil || !sameNodes(have.Message, announced.Message)
}

// release clears what the controller wrote into the status of a Service that is no longer of type LoadBalancer.
func (c *serviceChange) release(e entry) {
	if len(e.claim.Held) > 0 && foreignOwner(e.service) == "" {
		c.ingress = &[]netip.Addr{}
		c.events = append(c.events, event{corev1.EventTypeNormal, v1beta1.ReasonAddressReleased, "gave back " + addrsText(e.claim.Held) + ": the Service is no longer of type LoadBalancer"})
	}
	if _, ok := e.service.Annotations[config.AllocatedFrom]; ok {
		c.from = new(string)
	}
	c.remove(v1beta1.ConditionAllocated)
	c.remove(v1beta1.ConditionAnnounced)
}

// address sets the addresses and where they came from, where they differ.
func (c *serviceChange) address(e entry, g ipam.Grant) {
	have := config.Ingress(e.service) // may lack what is held: see memory.doubtful
	if !slices.Equal(have, g.Addrs) || len(have) != len(e.service.Status.LoadBalancer.Ingress) {
		c.ingress = &g.Addrs
		c.first = len(have) == 0
	}
	from := poolsText(g)
	if from != e.service.Annotations[config.AllocatedFrom] {
		c.from = &from
	}
}

// poolsText returns the pools of a grant as the annotation holds them: one name if all are the same.
func poolsText(g ipam.Grant) string {
	pools := g.Pools
	if len(pools) == 0 || slices.Contains(pools, "") {
		return ""
	}
	if !slices.ContainsFunc(pools, func(p string) bool { return p != pools[0] }) {
		return pools[0]
	}
	return strings.Join(pools, ",")
}

// condition sets a condition where it differs, and tells of it if it is another verdict than before.
func (c *serviceChange) condition(want metav1.Condition, moved bool, now time.Time) {
	merged, told := mergeCondition(c.service.Status.Conditions, want, now)
	if merged == nil {
		return
	}
	c.set = append(c.set, *merged)
	if (told || moved) && want.Reason != v1beta1.ReasonPending {
		c.events = append(c.events, event{eventType(want.Status), want.Reason, want.Message})
	}
}

func (c *serviceChange) remove(kind string) {
	if meta.FindStatusCondition(c.service.Status.Conditions, kind) != nil {
		c.drop = append(c.drop, kind)
	}
}

// mergeCondition returns the condition to write, nil if the one there says the same. told reports whether it is another
// verdict: a new reason or status, not only another message.
func mergeCondition(have []metav1.Condition, want metav1.Condition, now time.Time) (merged *metav1.Condition, told bool) {
	old := meta.FindStatusCondition(have, want.Type)
	if old != nil && old.Status == want.Status {
		want.LastTransitionTime = old.LastTransitionTime
		if old.Reason == want.Reason && old.Message == want.Message && old.ObservedGeneration == want.ObservedGeneration {
			return nil, false
		}
		return &want, old.Reason != want.Reason
	}
	want.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
	if old == nil {
		return &want, true
	}
	return &want, old.Status != want.Status || old.Reason != want.Reason
}

func status(ok bool) metav1.ConditionStatus {
	if ok {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func eventType(status metav1.ConditionStatus) string {
	if status == metav1.ConditionTrue {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

func addrsText(addrs []netip.Addr) string {
	var texts []string
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	return strings.Join(texts, ", ")
}

// countText returns "1 Service keeps" or "3 Services keep".
func countText(n int) string {
	if n == 1 {
		return "1 Service keeps"
	}
	return fmt.Sprintf("%d Services keep", n)
}
