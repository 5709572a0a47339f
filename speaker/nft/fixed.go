package nft

import (
	"net/netip"
	"reflect"
	"slices"

	"go4.org/netipx"
)

// ranges are the family's prefixes, merged and sorted.
func ranges(f family, prefixes []netip.Prefix) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		if familyOf(p.Addr()) == f && p.IsValid() {
			b.AddPrefix(p.Masked())
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // cannot be: only valid prefixes went in
	}
	return set.Ranges()
}

// intervals are the bounds of the prefixes as the kernel wants them: each
// range's first address, and the one behind its last.
func intervals(f family, set setID, prefixes []netip.Prefix) []element {
	var out []element
	for _, r := range ranges(f, prefixes) {
		out = append(out, element{slot{family: f, set: set, key: rawAddr(r.From())}, ""})
		if end := r.To().Next(); end.IsValid() {
			out = append(out, element{slot{family: f, set: set, key: rawAddr(end), bound: true}, ""})
		}
	}
	return out
}

// fixedElements are those that come from Static, but for those of the announced addresses.
func fixedElements(f family, s Static) []element {
	return slices.Concat(
		intervals(f, serviceCIDRs, s.ServiceCIDRs),
		intervals(f, podCIDRs, s.PodCIDRs),
		intervals(f, unmasqueraded, s.unmasqueraded(f)),
		addresses(f, nodeportIPs, s.NodePortAddresses),
	)
}

// unmasqueraded are the sources whose traffic to ClusterIPs keeps its address:
// those whose answers are known to come back. If nobody is known to be a pod, everybody might be.
func (s Static) unmasqueraded(f family) []netip.Prefix {
	switch {
	case s.MasqueradeAll:
		return nil
	case len(ranges(f, s.PodCIDRs)) == 0:
		return []netip.Prefix{netip.PrefixFrom(f.unspecified(), 0)}
	default:
		return s.PodCIDRs
	}
}

func addresses(f family, set setID, addrs []netip.Addr) []element {
	var out []element
	for _, a := range addrs {
		if a.IsValid() && familyOf(a) == f {
			out = append(out, element{slot{family: f, set: set, key: rawAddr(a)}, ""})
		}
	}
	return out
}

// spareSlots is up to how many endpoints the chains that choose one exist
// from the start. The kernel walks over all endpoints there are for each chain
// that begins to use their map, which is free as long as there are none.
const spareSlots = 32

// setStatic replaces what is known about the node, with its elements and chains.
func (st *state) setStatic(s Static) {
	s.Announced, s.Echo = inOrder(s.Announced), inOrder(s.Echo)
	old := st.static
	first := len(st.tables[v4].chains) == 0
	if slices.Equal(old.NodePortAddresses, s.NodePortAddresses) {
		st.static = s
	} else {
		st.reveal(func() { st.static = s })
	}
	st.announce(old, s)
	if !first && old.likeExceptAnnounced(s) {
		return
	}
	for _, f := range families {
		if !first {
			st.emit(fixedElements(f, old), true)
		}
		st.emit(fixedElements(f, s), false)
		for _, c := range staticChains(f, s) {
			st.setChain(f, c)
		}
		for _, name := range []string{"forward", "unknown"} {
			if _, exists := st.tables[f].chains[name]; exists && !s.DropInvalid && s.Ring == 0 {
				delete(st.tables[f].chains, name)
				st.plan.gone = append(st.plan.gone, chainRef{f, name})
			}
		}
		for k := uint32(1); first && k <= spareSlots; k++ {
			st.follow(f, class{stage: plain, slots: k})
		}
		st.class(f, class{stage: rejecting})
		st.class(f, class{stage: dropping})
		if !first {
			st.rewrite(f)
		}
	}
}

// announce works on the difference: the announced addresses change with every Service that gets one, and may be many.
func (st *state) announce(old, now Static) {
	for _, a := range without(old.Announced, now.Announced) {
		st.countOne(counted{serviceIPs, a.Unmap()}, -1)
	}
	for _, a := range without(now.Announced, old.Announced) {
		st.countOne(counted{serviceIPs, a.Unmap()}, +1)
	}
	for _, f := range families {
		st.emit(addresses(f, echoIPs, without(old.echo(), now.echo())), true)
		st.emit(addresses(f, echoIPs, without(now.echo(), old.echo())), false)
	}
}

// echo are the addresses to answer pings for.
func (s Static) echo() []netip.Addr {
	if !s.AnswerEcho {
		return nil
	}
	return s.Echo
}

// likeExceptAnnounced tells whether all is the same but what announce works on.
func (s Static) likeExceptAnnounced(other Static) bool {
	s.Announced, other.Announced = nil, nil
	s.Echo, other.Echo = nil, nil
	return reflect.DeepEqual(s, other)
}

// inOrder returns addresses sorted, each once.
func inOrder(addrs []netip.Addr) []netip.Addr {
	if slices.IsSortedFunc(addrs, netip.Addr.Compare) { // as they mostly are
		return slices.Compact(slices.Clone(addrs))
	}
	return slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare))
}

// without returns those of a that are not in b; both are sorted.
func without(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, addr := range a {
		for len(b) > 0 && b[0].Less(addr) {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != addr {
			out = append(out, addr)
		}
	}
	return out
}

func (st *state) emit(es []element, gone bool) {
	for _, e := range es {
		st.plan.events = append(st.plan.events, event{e, gone})
	}
}
