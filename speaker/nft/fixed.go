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

// fixedElements are those that come from Static, but for the counted ones.
func fixedElements(f family, s Static) []element {
	out := slices.Concat(
		intervals(f, serviceCIDRs, s.ServiceCIDRs),
		intervals(f, podCIDRs, s.PodCIDRs),
		intervals(f, unmasqueraded, s.unmasqueraded(f)),
		addresses(f, nodeportIPs, s.NodePortAddresses),
	)
	if s.AnswerEcho {
		out = append(out, addresses(f, echoIPs, s.Echo)...)
	}
	return out
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
	if len(st.tables[v4].chains) > 0 && reflect.DeepEqual(st.static, s) {
		return
	}
	old := st.static
	first := len(st.tables[v4].chains) == 0
	st.static = s
	for _, f := range families {
		if !first {
			st.emit(fixedElements(f, old), true)
		}
		st.emit(fixedElements(f, s), false)
		for _, c := range staticChains(f, s) {
			st.setChain(f, c)
		}
		if _, exists := st.tables[f].chains["forward"]; exists && !s.DropInvalid {
			delete(st.tables[f].chains, "forward")
			st.plan.gone = append(st.plan.gone, chainRef{f, "forward"})
		}
		for k := uint32(1); first && k <= spareSlots; k++ {
			st.follow(f, class{stage: plain, slots: k})
		}
		st.class(f, class{stage: rejecting})
		st.class(f, class{stage: dropping})
		if !first && old.mark() != s.mark() {
			st.remark(f)
		}
	}
	if !first {
		st.announced(old, -1)
	}
	st.announced(s, +1)
}

func (st *state) announced(s Static, by int) {
	for _, a := range s.Announced {
		st.countOne(counted{serviceIPs, a.Unmap()}, by)
	}
}

func (st *state) emit(es []element, gone bool) {
	for _, e := range es {
		st.plan.events = append(st.plan.events, event{e, gone})
	}
}
