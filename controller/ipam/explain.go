package ipam

import (
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// explain returns the reason of a grant and the sentence for it.
func (t *table) explain(d decision, g Grant) (reason, message string) {
	if g.OK {
		reason, message = v1beta1.ReasonAddressAllocated, describe(g)
		for _, addr := range g.Kept {
			reason = v1beta1.ReasonAddressKept
			message += "; " + addr.String() + " is kept although " + outdated(d.claim, addr, t.poolOf(addr))
		}
		if missing := d.refusals(); len(missing) > 0 {
			message += "; " + strings.Join(missing, "; ")
		}
		return reason, message
	}
	for _, s := range d.slots {
		if s.why.reason != "" {
			return s.why.reason, strings.Join(d.refusals(), "; ") + meanwhile(g.Addrs)
		}
	}
	return v1beta1.ReasonPending, "waiting for the other address family" + meanwhile(g.Addrs)
}

// refusals returns the messages of the slots that stay empty.
func (d decision) refusals() []string {
	var messages []string
	for _, s := range d.slots {
		if s.why.message != "" && !s.have.IsValid() {
			messages = append(messages, s.why.message)
		}
	}
	return messages
}

// outdated says why a Service would not get an address of a pool today that it holds, "" if it would.
func outdated(claim *Claim, addr netip.Addr, pool *poolState) string {
	if pool == nil {
		return "no pool gives it any more"
	}
	owner, reserved := pool.Reservations[addr]
	rule := refuseRule(claim, pool.Pool)
	switch {
	case pool.Deleting:
		return "pool " + pool.Name + " is being deleted"
	case reserved && owner != claim.Service:
		return "pool " + pool.Name + " reserves it for " + owner.String()
	case rule != "" && !reserved:
		return "pool " + pool.Name + " would not give it today: " + rule
	}
	return ""
}

// describe lists addresses with their pools.
func describe(g Grant) string {
	b := make([]byte, 0, 128)
	for i, addr := range g.Addrs {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = addr.AppendTo(b)
		if g.Pools[i] != "" {
			b = append(b, " from pool "...)
			b = append(b, g.Pools[i]...)
		}
	}
	return string(b)
}

// meanwhile says what a Service has while it waits for something else.
func meanwhile(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return ""
	}
	var texts []string
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	return " (the Service keeps " + strings.Join(texts, ", ") + " meanwhile)"
}
