package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// refuseNamed says why a claim cannot have one certain address, nil if it can.
func (t *table) refuseNamed(claim *Claim, addr netip.Addr) *refusal {
	pool := t.poolOf(addr)
	if pool == nil {
		return &refusal{v1beta1.ReasonAddressNotInPool, fmt.Sprintf("no pool gives %s: add it to one, or ask for an address of %s", addr, t.poolNames())}
	}
	owner, reserved := pool.Reservations[addr]
	if why := t.refuseMember(claim, pool, addr, reserved && owner == claim.Service); why != nil {
		return why
	}
	if reserved && owner != claim.Service {
		return &refusal{v1beta1.ReasonAddressReserved, fmt.Sprintf("%s is reserved for %s in pool %s: ask for another address", addr, owner, pool.Name)}
	}
	if _, taken := t.seats[addr]; taken {
		return t.refuseShared(claim, addr)
	}
	if r, cooling := t.cooling[addr]; cooling && r.Service != claim.Service {
		return &refusal{v1beta1.ReasonAddressCooling, fmt.Sprintf("%s was given back by %s and cools down for %s: wait, or ask for another address", addr, r.Service, pool.Cooldown)}
	}
	return nil
}

// refuseMember says why a claim cannot have addresses of the pool that one certain address is in. autoAssign does not
// matter to a claim that names the address, and a reservation is a permission.
func (t *table) refuseMember(claim *Claim, pool *poolState, addr netip.Addr, reservedForIt bool) *refusal {
	if len(claim.Pools) > 0 && !slices.Contains(claim.Pools, pool.Name) {
		return &refusal{v1beta1.ReasonAddressNotInPool, fmt.Sprintf("%s is in pool %s, but the Service asks for pool %s: ask for an address of that pool", addr, pool.Name, strings.Join(claim.Pools, ", "))}
	}
	if pool.Deleting {
		return &refusal{v1beta1.ReasonPoolNotAllowed, fmt.Sprintf("%s is in pool %s, which is being deleted: ask for another address", addr, pool.Name)}
	}
	if rule := refuseRule(claim, pool.Pool); rule != "" && !reservedForIt {
		return &refusal{v1beta1.ReasonPoolNotAllowed, fmt.Sprintf("%s is in pool %s, but %s: ask for another address, or change the pool's serviceAllocation", addr, pool.Name, rule)}
	}
	return nil
}

// refuseShared says why a claim cannot join those that have an address.
func (t *table) refuseShared(claim *Claim, addr netip.Addr) *refusal {
	for _, i := range t.seated(addr) {
		other := t.claims[i]
		why := shareRefusal(claim, other)
		switch {
		case why == "":
			continue
		case claim.Sharing.Key == "":
			return &refusal{v1beta1.ReasonAddressInUse, fmt.Sprintf("%s is in use by %s: ask for another address, or share it with the same allow-shared-ip on both", addr, other.Service)}
		}
		return &refusal{v1beta1.ReasonSharingRefused, fmt.Sprintf("%s is in use by %s: %s", addr, other.Service, why)}
	}
	return nil
}

// shareRefusal says why two Services cannot have one address together, "" if they can.
func shareRefusal(a, b *Claim) string {
	switch {
	case a.Leaving || b.Leaving || a.others() || b.others():
		return "it does not share"
	case b.Sharing.Key == "":
		return fmt.Sprintf("%s has no allow-shared-ip", b.Service)
	case a.Sharing.Key != b.Sharing.Key:
		return fmt.Sprintf("allow-shared-ip is %q there and %q here", b.Sharing.Key, a.Sharing.Key)
	case !consent(a, b) || !consent(b, a):
		return fmt.Sprintf("to share across namespaces, allow-shared-ip-namespaces must name %s here and %s there", b.Service.Namespace, a.Service.Namespace)
	case a.Sharing.Local != b.Sharing.Local:
		return "externalTrafficPolicy must be the same on both"
	case a.Sharing.Local && a.Sharing.Selector != b.Sharing.Selector:
		return "with externalTrafficPolicy: Local both must select the same pods"
	}
	for _, port := range a.Sharing.Ports {
		if slices.Contains(b.Sharing.Ports, port) {
			return fmt.Sprintf("both have port %s", port)
		}
	}
	return ""
}

// consent reports whether a agrees to share with the namespace of b.
func consent(a, b *Claim) bool {
	return a.Service.Namespace == b.Service.Namespace || slices.Contains(a.Sharing.Namespaces, b.Service.Namespace)
}

// refusePool says why a claim that names no address may not use a pool, "" if it may.
func (t *table) refusePool(claim *Claim, pool *poolState) string {
	switch {
	case len(claim.Pools) > 0 && !slices.Contains(claim.Pools, pool.Name):
		return "not the pool asked for"
	case pool.Deleting:
		return "being deleted"
	case len(claim.Pools) == 0 && !pool.AutoAssign:
		return "autoAssign is false"
	}
	return refuseRule(claim, pool.Pool)
}

// refuseRule says which rule of a pool's serviceAllocation keeps a claim out, "" if none does.
func refuseRule(claim *Claim, pool *config.Pool) string {
	rules := pool.Allocation
	if rules == nil {
		return ""
	}
	restricted := len(rules.Namespaces) > 0 || len(rules.NamespaceSelectors) > 0
	if restricted && !slices.Contains(rules.Namespaces, claim.Service.Namespace) && !rules.NamespaceSelectors.Match(claim.NamespaceLabels) {
		return fmt.Sprintf("namespace %s not allowed", claim.Service.Namespace)
	}
	if !rules.ServiceSelectors.MatchOrEmpty(claim.Labels) {
		return "serviceSelectors do not match the Service's labels"
	}
	return ""
}

// verdictKey is all of a claim that refuseAll looks at.
type verdictKey struct {
	family                   config.Family
	pools, namespace, labels string
}

// refuseAll says why no pool has an address of a family for a claim. Many claims may wait for the same reason: it is
// put into words once.
func (t *table) refuseAll(claim *Claim, family config.Family) refusal {
	key := verdictKey{family: family, pools: strings.Join(claim.Pools, ","), namespace: claim.Service.Namespace, labels: claim.Labels.String()}
	why, ok := t.verdicts[key]
	if !ok {
		why = t.judge(claim, family)
		t.verdicts[key] = why
	}
	return why
}

// judge says for each pool why it has no address of a family for a claim, and what to do.
func (t *table) judge(claim *Claim, family config.Family) refusal {
	if why, ok := t.refuseNoPool(claim); ok {
		return why
	}
	var verdicts []string
	exhausted, open := false, false
	for _, pool := range t.byIndex {
		rule := t.refusePool(claim, pool)
		switch {
		case len(claim.Pools) > 0 && !slices.Contains(claim.Pools, pool.Name):
			continue
		case rule != "":
		case pool.Size(family) == 0:
			rule, open = fmt.Sprintf("no %s addresses", family), true
		default:
			rule, exhausted = t.fullness(pool, family), true
		}
		verdicts = append(verdicts, pool.Name+": "+rule)
	}
	text := fmt.Sprintf("no %s address: %s. ", family, strings.Join(verdicts, "; "))
	switch {
	case exhausted:
		return refusal{v1beta1.ReasonPoolExhausted, text + "Add addresses to a pool, or delete a Service that holds one"}
	case open:
		return refusal{v1beta1.ReasonFamilyUnavailable, text + fmt.Sprintf("Add %s addresses to a pool, or change the Service's ipFamilies", family)}
	}
	return refusal{v1beta1.ReasonPoolNotAllowed, text + "Change a pool's serviceAllocation or autoAssign, or name a pool in the Service's annotation fairlead.dev/address-pool"}
}

func (t *table) refuseNoPool(claim *Claim) (refusal, bool) {
	if len(t.byIndex) == 0 {
		return refusal{v1beta1.ReasonNoPool, "there is no IPAddressPool: make one with addresses of your network"}, true
	}
	for _, name := range claim.Pools {
		if t.config.PoolNamed(name) < 0 {
			return refusal{v1beta1.ReasonNoPool, fmt.Sprintf("there is no IPAddressPool %s: write the name of one that exists (%s), or make it", name, t.poolNames())}, true
		}
	}
	return refusal{}, false
}

// fullness says how a pool's addresses of a family are used up.
func (t *table) fullness(pool *poolState, family config.Family) string {
	size, used := pool.Size(family), pool.used[family]
	text := fmt.Sprintf("%d of %d used", used, size)
	reserved, cooling := t.idle(pool, family)
	if reserved > 0 {
		text += fmt.Sprintf(", %d reserved", reserved)
	}
	if cooling > 0 {
		text += fmt.Sprintf(", %d cooling down", cooling)
	}
	if hidden := size - used - reserved - cooling; hidden > 0 {
		text += fmt.Sprintf(", %d end in .0 or .255", hidden)
	}
	return text
}

// idle counts the addresses of a pool that nobody holds and not everybody may have.
func (t *table) idle(pool *poolState, family config.Family) (reserved, cooling int64) {
	for addr := range pool.Reservations {
		if _, taken := t.seats[addr]; !taken && config.FamilyOf(addr) == family {
			reserved++
		}
	}
	for addr := range t.cooling {
		_, taken := t.seats[addr]
		_, also := pool.Reservations[addr]
		if !taken && !also && config.FamilyOf(addr) == family && t.poolOf(addr) == pool {
			cooling++
		}
	}
	return reserved, cooling
}

// poolNames returns the names of all pools for a message, cut short if there are many.
func (t *table) poolNames() string {
	const most = 10
	var names []string
	for i, pool := range t.byIndex {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, pool.Name)
	}
	if len(names) == 0 {
		return "a pool, once there is one"
	}
	return strings.Join(names, ", ")
}
