package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// changePools returns the pools whose status says something else than it should.
func changePools(w world, o outcome) []poolChange {
	var changes []poolChange
	for _, pool := range w.pools {
		i := slices.IndexFunc(o.usage, func(u ipam.Usage) bool { return u.Pool == pool.Name })
		if i < 0 {
			continue
		}
		usage := o.usage[i]
		want := v1beta1.IPAddressPoolStatus{
			AssignedIPv4:  usage.Assigned[config.IPv4],
			AssignedIPv6:  usage.Assigned[config.IPv6],
			AvailableIPv4: usage.Available[config.IPv4],
			AvailableIPv6: usage.Available[config.IPv6],
			Leases:        statusOf(o.leases, pool.Name),
		}
		var events []event
		want.Conditions, events = mergeConditions(pool.Status.Conditions, poolConditions(w.problems, pool, usage), pool.Generation, w.now)
		change := poolChange{pool: pool, status: !equality.Semantic.DeepEqual(pool.Status, want), numbers: onlyNumbers(pool.Status, want), events: events}
		change.pool.Status, change.pool.Finalizers = want, finalizers(pool, w.config, usage)
		change.protect = !slices.Equal(change.pool.Finalizers, pool.Finalizers)
		if change.protect && !pool.DeletionTimestamp.IsZero() { // it goes: there is nothing more to be said of it
			change.pool.Status, change.status, change.events = pool.Status, false, nil
		}
		if change.status || change.protect {
			changes = append(changes, change)
		}
	}
	return changes
}

// finalizers returns those a pool should have: ours for as long as Services hold addresses of it. One that is being
// deleted already gets none any more: the API server forbids it.
func finalizers(pool v1beta1.IPAddressPool, c config.Config, usage ipam.Usage) []string {
	i := c.PoolNamed(pool.Name)
	needed := len(usage.Holders) > 0 && i >= 0 && !c.Pools[i].Yielding
	has := slices.Contains(pool.Finalizers, v1beta1.FinalizerPoolInUse)
	switch {
	case needed && !has && pool.DeletionTimestamp.IsZero():
		return append(slices.Clone(pool.Finalizers), v1beta1.FinalizerPoolInUse)
	case !needed && has:
		return slices.DeleteFunc(slices.Clone(pool.Finalizers), func(f string) bool { return f == v1beta1.FinalizerPoolInUse })
	}
	return pool.Finalizers
}

// poolConditions returns what is to be said of a pool.
func poolConditions(problems []config.Problem, pool v1beta1.IPAddressPool, usage ipam.Usage) []metav1.Condition {
	mine := problemsOf(problems, "ipaddresspool/"+pool.Name)
	isOverlap := func(p config.Problem) bool { return p.Reason == v1beta1.ReasonOverlap }
	overlaps := slices.DeleteFunc(slices.Clone(mine), func(p config.Problem) bool { return !isOverlap(p) })
	others := slices.DeleteFunc(mine, isOverlap)

	ready := readyCondition(others, "the pool gives addresses")
	overlap := metav1.Condition{Type: v1beta1.ConditionOverlaps, Status: metav1.ConditionFalse, Reason: v1beta1.ReasonNoOverlap, Message: "no earlier pool has any of its addresses"}
	if len(overlaps) > 0 {
		overlap.Status, overlap.Reason, overlap.Message = metav1.ConditionTrue, v1beta1.ReasonOverlap, joinMessages(overlaps)
	}
	return []metav1.Condition{ready, overlap, drainingCondition(pool, usage)}
}

func drainingCondition(pool v1beta1.IPAddressPool, usage ipam.Usage) metav1.Condition {
	condition := metav1.Condition{Type: v1beta1.ConditionDraining, Status: metav1.ConditionFalse, Reason: v1beta1.ReasonNotDraining, Message: "the pool would give every address that Services hold of it"}
	switch {
	case !pool.DeletionTimestamp.IsZero() && len(usage.Holders) == 0:
		condition.Message = "the pool is being deleted and gives no new addresses; no Service holds one of it"
	case !pool.DeletionTimestamp.IsZero():
		condition.Message = fmt.Sprintf("the pool is being deleted and gives no new addresses; %s an address of it: %s. It goes when the last of them lets go, or at once with the annotation %s: \"true\"",
			countText(len(usage.Holders)), namesText(usage.Holders), config.DeleteInUse)
	case len(usage.Draining) > 0:
		condition.Message = fmt.Sprintf("%s an address that the pool would not give today: %s", countText(len(usage.Draining)), namesText(usage.Draining))
	default:
		return condition
	}
	condition.Status, condition.Reason = metav1.ConditionTrue, v1beta1.ReasonDraining
	return condition
}

// namesText lists the first of many Services.
func namesText(services []types.NamespacedName) string {
	const most = 5
	var names []string
	for i, service := range services {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(services)-most))
			break
		}
		names = append(names, service.String())
	}
	return strings.Join(names, ", ")
}

// changeL2 returns the advertisements whose status says something else than it should.
func changeL2(w world) []l2Change {
	var changes []l2Change
	for _, l2 := range w.l2 {
		ready := readyCondition(problemsOf(w.problems, "l2advertisement/"+l2.Name), "the advertisement is in use")
		conditions, events := mergeConditions(l2.Status.Conditions, []metav1.Condition{ready}, l2.Generation, w.now)
		if equality.Semantic.DeepEqual(l2.Status.Conditions, conditions) {
			continue
		}
		changed := l2
		changed.Status.Conditions = conditions
		changes = append(changes, l2Change{changed, events})
	}
	return changes
}

func problemsOf(problems []config.Problem, object string) []config.Problem {
	var found []config.Problem
	for _, p := range problems {
		if p.Object == object {
			found = append(found, p)
		}
	}
	return found
}

// readyCondition is False if there are problems, with the reason of the first.
func readyCondition(problems []config.Problem, fine string) metav1.Condition {
	if len(problems) == 0 {
		return metav1.Condition{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1beta1.ReasonReady, Message: fine}
	}
	return metav1.Condition{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, Reason: problems[0].Reason, Message: joinMessages(problems)}
}

// mergeConditions returns the conditions to show, and an event for each that is another verdict than before. Only bad
// news and their end are told: that a new object is fine is not.
func mergeConditions(have, want []metav1.Condition, generation int64, now time.Time) ([]metav1.Condition, []event) {
	merged := slices.Clone(have)
	var events []event
	for _, condition := range want {
		condition.ObservedGeneration = generation
		next, told := mergeCondition(have, condition, now)
		if next == nil {
			continue
		}
		old := meta.FindStatusCondition(have, condition.Type)
		fresh := old == nil || old.Reason == v1beta1.ReasonPending
		bad := isBad(condition)
		if told && (bad || !fresh) {
			kind := corev1.EventTypeNormal
			if bad {
				kind = corev1.EventTypeWarning
			}
			events = append(events, event{kind, condition.Reason, condition.Message})
		}
		meta.RemoveStatusCondition(&merged, condition.Type)
		merged = append(merged, *next)
	}
	order := []string{v1beta1.ConditionReady, v1beta1.ConditionEstablished, v1beta1.ConditionOverlaps, v1beta1.ConditionDraining}
	slices.SortStableFunc(merged, func(a, b metav1.Condition) int { return slices.Index(order, a.Type) - slices.Index(order, b.Type) })
	return merged, events
}

// isBad reports whether a condition of one of our own kinds is bad news: Ready or Established and not True, or any other
// that is True. What is not known yet is no news.
func isBad(condition metav1.Condition) bool {
	if condition.Reason == v1beta1.ReasonPending {
		return false
	}
	good := condition.Type == v1beta1.ConditionReady || condition.Type == v1beta1.ConditionEstablished
	return good != (condition.Status == metav1.ConditionTrue)
}
