package nft

import (
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is one rule. What it is compared by is a fingerprint that it carries as
// its comment into the kernel and back: the kernel does not return expressions
// the way they were given.
type rule struct {
	why   string // for people, in the rule's comment
	exprs []expr.Any
	// ports puts "meta l4proto { tcp, udp, sctp }" in front. nft wants it in
	// the same rule to accept its own listing of a dnat to a port.
	ports bool
}

// fingerprint is the rule's comment.
func (r rule) fingerprint(f family) string {
	h := fnv.New64a()
	for _, e := range r.exprs {
		b, err := expr.Marshal(f.proto(), e)
		if err != nil {
			return "unprintable"
		}
		h.Write(b)
	}
	sum := uint32(h.Sum64()) ^ uint32(h.Sum64()>>32)
	return fmt.Sprintf("%s #%08x", r.why, sum)
}

// hook makes a chain a base chain.
type hook struct {
	kind     string
	number   uint32
	priority int32
}

// chain is one chain with its rules.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

func (c chain) fingerprints(f family) []string {
	out := make([]string, 0, len(c.rules))
	for _, r := range c.rules {
		out = append(out, r.fingerprint(f))
	}
	return out
}

// Priorities of our hooks. Remembering comes right behind the destination's
// translation and before the routing decision, which resets the priority of
// IPv4 packets.
const (
	dstnat   = -100
	remember = -95
	filter   = 0
	srcnat   = 100
)

// staticChains are those that exist whatever the Services are, in an order in
// which each only uses those before it.
func staticChains(f family, s Static) []chain {
	mark, services := s.mark(), f.services(s)
	chains := []chain{
		{name: "refuse", rules: []rule{
			{why: "at once, and not limited like ICMP", exprs: slices.Concat(l4proto(unix.IPPROTO_TCP), reset())},
			{why: "nothing serves this port", exprs: f.unreachable()},
		}},
		{name: "short-circuit", rules: []rule{
			{why: "Local policy does not bind the cluster's own", exprs: slices.Concat(f.lookupSocket(shortCircuits), setPriority(), dispatch(plainClasses))},
			{why: "the same for node ports", exprs: slices.Concat(f.inSet(f.daddr(), nodeportIPs), lookupPort(shortCircuitsPorts), setPriority(), dispatch(plainClasses))},
		}},
		{name: "local-common", rules: []rule{
			{why: "from a pod", exprs: slices.Concat(f.inSet(f.saddr(), podCIDRs), jump(expr.VerdictGoto, "short-circuit"))},
			{why: "from this node", exprs: slices.Concat(fibLocalSource(), setMark(mark), jump(expr.VerdictGoto, "short-circuit"))},
		}},
		relayChain(f, s.Ring),
		{name: "prerouting", hook: &hook{"nat", unix.NF_INET_PRE_ROUTING, dstnat}, rules: slices.Concat([]rule{
			{why: "a connection that another node began", exprs: slices.Concat(f.notFirst(), jump(expr.VerdictJump, "relay"))},
		}, services)},
		{name: "output", hook: &hook{"nat", unix.NF_INET_LOCAL_OUT, dstnat}, rules: services},
		{name: "postrouting", hook: &hook{"nat", unix.NF_INET_POST_ROUTING, srcnat}, rules: []rule{
			{why: "the token has served", exprs: slices.Concat(hasTarget(), ctBit(expr.CtKeySTATUS, ctStatusDNAT), clearPriority())},
			{why: "marked for it", exprs: slices.Concat(markIsSet(mark), flipMark(mark), masquerade())},
			{why: "an endpoint reached itself", exprs: slices.Concat(f.lookupPair(hairpin), ctBit(expr.CtKeySTATUS, ctStatusDNAT), masquerade())},
		}},
	}
	if s.DropInvalid || s.Ring > 0 {
		chains = append(chains, unknownChains(f, s)...)
	}
	return chains
}

// unknownChains are for packets that conntrack knows no connection of and that pass no NAT hook: it takes no FIN and no RST
// for the beginning of one.
func unknownChains(f family, s Static) []chain {
	var unknown []rule
	if s.Ring > 0 {
		unknown = []rule{
			{why: "a connection that another node began", exprs: slices.Concat(f.notFirst(), jump(expr.VerdictJump, "relay"))},
			{why: "a router would send it back here", exprs: slices.Concat(f.inSet(f.daddr(), serviceIPs), drop())},
		}
	}
	if s.DropInvalid {
		unknown = append(unknown, rule{why: "would leave with the pod's own address", exprs: slices.Concat(f.inSet(f.saddr(), podCIDRs), drop())})
	}
	return []chain{
		{name: "unknown", rules: unknown},
		{name: "forward", hook: &hook{"filter", unix.NF_INET_FORWARD, filter}, rules: []rule{
			{why: "of no connection", exprs: slices.Concat(ctInvalid(), jump(expr.VerdictGoto, "unknown"))},
		}},
	}
}

// relayChain passes packets on to another node that may know their connection. In a ring each node gets a packet at most
// once, and what is more than the limit is treated as before there were rings: a pod resets it.
func relayChain(f family, ring int) chain {
	return chain{name: "relay", rules: []rule{
		{why: "the address came here from there", exprs: slices.Concat(f.relay(relays), drop())},
		{why: "not for ever round", exprs: slices.Concat(f.lookupAddr(rings), f.fewerHops(ring))},
		{why: "routers lead the address there, too", exprs: slices.Concat(relayLimit(), f.relay(rings), drop())},
	}}
}

// services lead first packets to what stands for their destination. Each hook has them itself: a jump costs time.
func (f family) services(s Static) []rule {
	rules := []rule{
		{why: "a Service's address", exprs: slices.Concat(f.lookupSocket(frontends), setPriority(), dispatch(classes))},
		{why: "a node port", exprs: slices.Concat(f.inSet(f.daddr(), nodeportIPs), lookupPort(nodeports), setPriority(), dispatch(classes))},
	}
	if s.AnswerEcho {
		rules = append(rules, rule{why: "an announced address is pinged", exprs: slices.Concat(f.echo(), f.inSet(f.daddr(), echoIPs), redirect())})
	}
	return append(rules,
		rule{why: "a port no Service has", exprs: slices.Concat(f.inSet(f.daddr(), serviceIPs), jump(expr.VerdictGoto, "refuse"))},
		rule{why: "an address no Service has", exprs: slices.Concat(f.inSet(f.daddr(), serviceCIDRs), drop())},
	)
}

// memoryChains exist only while a Service has session affinity: they cost
// every packet a test.
func memoryChains() []chain {
	rules := []rule{{why: "a new client of a Service with affinity",
		exprs: slices.Concat(ctBit(expr.CtKeySTATE, ctStateNew), ctBit(expr.CtKeySTATUS, ctStatusDNAT), dispatch(remembers))}}
	return []chain{
		{name: "remember-prerouting", hook: &hook{"filter", unix.NF_INET_PRE_ROUTING, remember}, rules: rules},
		{name: "remember-output", hook: &hook{"filter", unix.NF_INET_LOCAL_OUT, remember}, rules: rules},
	}
}

// classChain is the chain of a class. memory is the number of the class that
// remembers, for sticky classes.
func classChain(f family, c class, s Static, memory uint16) chain {
	out := chain{name: c.chain()}
	next, hasNext := c.behind()
	switch {
	case c.guarded:
		out.rules = []rule{{why: "not in loadBalancerSourceRanges", exprs: slices.Concat(f.lookupSource(), drop())}}
	case c.stage == clustering:
		if from, some := f.strangers(s); some {
			out.rules = []rule{{why: "the answer must come back here", exprs: slices.Concat(from, setMark(s.mark()))}}
		}
	case c.stage == external:
		out.rules = []rule{{why: "the answer must come back here", exprs: setMark(s.mark())}}
	case c.stage == localOnly:
		out.rules = []rule{{why: "pods and this node first", exprs: jump(expr.VerdictJump, "local-common")}}
	case c.stage == plain && c.sticky != 0:
		out.rules = []rule{
			{why: "the part of the token that stays", exprs: keepTarget(memory)},
			{why: "the client was here before", exprs: slices.Concat(f.lookupClient(), f.dnat()), ports: true},
		}
	case c.stage == remembering:
		out.rules = []rule{{why: "refreshed by each new connection", exprs: f.rememberClient(c.sticky)}}
		return out
	case c.stage == plain:
		out.rules = f.choose(c)
	}
	if hasNext {
		out.rules = append(out.rules, rule{why: "then", exprs: jump(expr.VerdictGoto, next.chain())})
	} else if c.stage == localOnly {
		out.rules = append(out.rules, rule{why: "no endpoint on this node", exprs: drop()})
	}
	return out
}

// choose picks one of a target's slots. The other two rules are for a packet
// that saw the frontend before a change and the endpoints after it: slot 0 always exists while the
// target does, and a packet that is dropped is sent again.
func (f family) choose(c class) []rule {
	first := numgen(c.slots)
	if c.hash {
		first = f.jhash(c.slots)
	}
	rules := []rule{{why: "one of the endpoints", exprs: f.toEndpoint(first), ports: true}}
	if c.slots > 1 {
		rules = append(rules, rule{why: "changed meanwhile", exprs: f.toEndpoint(numgen(1)), ports: true})
	}
	return append(rules, rule{why: "gone meanwhile", exprs: drop()})
}

func (s Static) mark() uint32 {
	if s.MasqueradeMark == 0 {
		return DefaultMasqueradeMark
	}
	return s.MasqueradeMark
}
