package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaStatus      = 3
	ctaProtoInfo   = 4
	ctaID          = 12
	ctaZone        = 18
	ctaFilter      = 25
	ctaStatusMask  = 26
	ctaTupleIP     = 1
	ctaTupleProto  = 2
	ctaProtoNum    = 1
	ctaIPv4Dst     = 2
	ctaInfoTCP     = 1
	ctaTCPState    = 1
	ctaFilterOrig  = 1
	ctFilterTo     = 1 << 1
	ctFilterProto  = 1 << 3
	ctSeenReply    = 1 << 1 // IPS_SEEN_REPLY of linux/netfilter/nf_conntrack_common.h
	ctMessageGet   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctMessageDel   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	ctDeletesAtOne = 500
	tcpTimeWait    = 7 // of enum tcp_conntrack in linux/netfilter/nf_conntrack_tcp.h
	tcpClose       = 8
)

// flow is one connection as conntrack has it.
type flow struct {
	proto Proto
	to    netip.AddrPort // where the client sent it
	from  netip.AddrPort // who answers
	id    []byte         // the attributes that name it
	// answered tells that a packet came back.
	answered bool
	// ended tells that it is one of TCP that both ends have closed, or that was reset.
	ended bool
}

// choice is which connections to list.
type choice struct {
	kind
	to         netip.Addr // sent to this address, of IPv4; invalid for any
	unanswered bool       // that nobody answered yet
}

// fill writes it as the kernel's filter.
func (c choice) fill(b *buffer) {
	by := uint32(ctFilterProto)
	if c.to.IsValid() {
		by |= ctFilterTo
	}
	filter := b.nest(ctaFilter)
	b.head(ctaFilterOrig, 4)
	b.b = binary.NativeEndian.AppendUint32(b.b, by)
	b.end(filter)
	tuple := b.nest(ctaTupleOrig)
	if c.to.IsValid() {
		ip := b.nest(ctaTupleIP)
		b.bytes(ctaIPv4Dst, []byte(rawAddr(c.to)))
		b.end(ip)
	}
	proto := b.nest(ctaTupleProto)
	b.bytes(ctaProtoNum, []byte{byte(c.p)})
	b.end(proto)
	b.end(tuple)
	if c.unanswered {
		b.bytes(ctaStatus, binary.BigEndian.AppendUint32(nil, 0))
		b.bytes(ctaStatusMask, binary.BigEndian.AppendUint32(nil, ctSeenReply))
	}
}

func (c choice) has(fl flow) bool {
	return fl.proto == c.p && (!c.unanswered || !fl.answered) && (!c.to.IsValid() || fl.to.Addr() == c.to)
}

// flows dumps connections. Kernels before 5.8 send all of them, so they are checked again.
func (w *wire) flows(c choice, each func(flow)) error {
	family := [...]uint8{unix.AF_INET, unix.AF_INET6}[c.f]
	return w.dump(ctMessageGet, family, c.fill, func(_ uint16, attrs []byte) {
		if fl, ok := parseFlow(attrs); ok && c.has(fl) {
			each(fl)
		}
	})
}

func parseFlow(attrs []byte) (flow, bool) {
	var fl flow
	var id buffer
	for typ, data := range attributes(attrs) {
		switch typ {
		case ctaTupleOrig:
			fl.proto, _, fl.to = parseTuple(data)
			id.bytes(ctaTupleOrig|nested, data)
		case ctaTupleReply:
			_, fl.from, _ = parseTuple(data)
		case ctaStatus:
			fl.answered = len(data) == 4 && binary.BigEndian.Uint32(data)&ctSeenReply != 0
		case ctaProtoInfo:
			state := attribute(attribute(data, ctaInfoTCP), ctaTCPState)
			fl.ended = len(state) == 1 && (state[0] == tcpTimeWait || state[0] == tcpClose)
		case ctaID, ctaZone:
			id.bytes(typ, data)
		}
	}
	fl.id = id.b
	return fl, fl.to.IsValid() && fl.from.IsValid()
}

func parseTuple(b []byte) (p Proto, src, dst netip.AddrPort) {
	var addrs [2]netip.Addr
	for typ, data := range attributes(attribute(b, ctaTupleIP)) {
		// CTA_IP_V4_SRC, V4_DST, V6_SRC, V6_DST
		if a, ok := netip.AddrFromSlice(data); ok && typ >= 1 && typ <= 4 {
			addrs[(typ-1)%2] = a
		}
	}
	var ports [2]uint16
	for typ, data := range attributes(attribute(b, ctaTupleProto)) {
		switch {
		case typ == ctaProtoNum && len(data) >= 1:
			p = Proto(data[0])
		case (typ == 2 || typ == 3) && len(data) >= 2: // CTA_PROTO_SRC_PORT, DST_PORT
			ports[typ-2] = binary.BigEndian.Uint16(data)
		}
	}
	return p, netip.AddrPortFrom(addrs[0], ports[0]), netip.AddrPortFrom(addrs[1], ports[1])
}

// forget deletes connections. Those that are gone already are no error.
func (w *wire) forget(fls []flow) error {
	for chunk := range slices.Chunk(fls, ctDeletesAtOne) {
		var b buffer
		first := w.seq + 1
		for i, fl := range chunk {
			flags := uint16(unix.NLM_F_REQUEST)
			if i == len(chunk)-1 {
				flags |= unix.NLM_F_ACK
			}
			family := [...]uint8{unix.AF_INET, unix.AF_INET6}[familyOf(fl.to.Addr())]
			start := b.message(ctMessageDel, flags, family, 0)
			b.b = append(b.b, fl.id...)
			b.done(start, w.next())
		}
		err := w.answers(b.b, first, w.seq)
		if err != nil {
			return fmt.Errorf("delete %d stale connections: %w", len(chunk), err)
		}
	}
	return nil
}

// answers sends messages of which only the last is acknowledged and ignores
// what no longer exists.
func (w *wire) answers(b []byte, first, last uint32) error {
	if err := w.send(b); err != nil {
		return err
	}
	var errs []error
	for {
		messages, err := w.receive()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, m := range messages {
			if m.typ != unix.NLMSG_ERROR || m.seq < first || m.seq > last {
				continue
			}
			if err := answerError(m); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, err)
			}
			if m.seq == last {
				return errors.Join(errs...)
			}
		}
	}
}

// suspects says which connections to a frontend are right: those that lead to
// one of these endpoints, or, where no Service is left, those that lead nowhere else.
type suspects map[frontKey]verdict

type verdict struct {
	gone bool
	to   []netip.AddrPort
}

// stale tells whether a connection leads where it no longer should.
func (s suspects) stale(fl flow, nodePortAddrs map[netip.Addr]bool) bool {
	v, known := s[frontKey{fl.to.Addr().Unmap(), fl.proto, fl.to.Port()}]
	if !known && nodePortAddrs[fl.to.Addr().Unmap()] {
		f := familyOf(fl.to.Addr())
		v, known = s[frontKey{f.unspecified(), fl.proto, fl.to.Port()}]
	}
	switch {
	case !known:
		return false
	case v.gone:
		return fl.from != fl.to
	default:
		return !slices.Contains(v.to, fl.from)
	}
}

// suspect compares what may serve each UDP or SCTP frontend now with what might before.
func (st *state) suspect(olds map[string]*placed, all bool) suspects {
	out := suspects{}
	look := func(k frontKey) {
		if k.proto == TCP || st.eclipsed[k] {
			return
		}
		owner, owned := st.owners[k]
		if !owned {
			out[k] = verdict{gone: true}
			return
		}
		now, known := st.services[owner].serving(k)
		if !known {
			return
		}
		if old := olds[owner]; old != nil && !all {
			before, was := old.serving(k)
			if was && slices.Equal(before, now) {
				return
			}
		}
		out[k] = verdict{to: now}
	}
	for name, old := range olds {
		for _, k := range frontKeys(old, st.services[name]) {
			look(k)
		}
	}
	if all {
		for k := range st.owners {
			look(k)
		}
	}
	return out
}

// serving are the endpoints that may serve a frontend, if that is known.
func (p *placed) serving(k frontKey) ([]netip.AddrPort, bool) {
	for _, s := range p.svc.Serving {
		for _, i := range s.Frontends {
			if i >= 0 && i < len(p.svc.Frontends) && p.svc.Frontends[i].key() == k {
				return s.Endpoints, true
			}
		}
	}
	return nil, false
}

// appeared tells for which families there are TCP frontends that were none before.
func (st *state) appeared(olds map[string]*placed) [len(families)]bool {
	var out [len(families)]bool
	for name, old := range olds {
		now := st.services[name]
		if now == nil || old != nil && slices.EqualFunc(old.svc.Frontends, now.svc.Frontends, sameKey) {
			continue
		}
		known := map[frontKey]bool{}
		for _, k := range frontKeys(old) {
			known[k] = true
		}
		for _, f := range now.svc.Frontends {
			if k := f.key(); k.proto == TCP && !known[k] {
				out[k.family()] = true
			}
		}
	}
	return out
}

func sameKey(a, b Frontend) bool { return a.key() == b.key() }

// untranslated tells whether a connection was begun before its frontend was one.
func (st *state) untranslated(fl flow, nodePortAddrs map[netip.Addr]bool) bool {
	k := st.frontendOf(fl, nodePortAddrs)
	_, owned := st.owners[k]
	return owned && !st.eclipsed[k] && fl.from == fl.to
}

// disconnect deletes stale UDP and SCTP connections. TCP connections it leaves to Sweep and ForgetStrays, unless all are in doubt.
func (t *Table) disconnect(olds map[string]*placed, all bool) (int, error) {
	t.going.lose(t.state, olds, all)
	s := t.state.suspect(olds, all)
	kinds := kinds{}
	for k := range s {
		kinds[kind{k.family(), k.proto}] = s.stale
	}
	for f, new := range t.state.appeared(olds) {
		t.early[f] = !all && (t.early[f] || new)
		if all {
			kinds[kind{family(f), TCP}] = t.state.untranslated
		}
	}
	return t.forgetThose(kinds)
}

// Early tells whether there are frontends that Sweep was not called for yet.
func (t *Table) Early() bool { return slices.Contains(t.early[:], true) }

// Sweep deletes the TCP connections to new frontends that nobody ever answered, and returns how many: whoever called
// before there was the Service sends its first packet again and again, a second or more apart, and conntrack would let it
// pass untranslated each time. TCP connections that were answered are never touched: they end by themselves when their endpoint does.
//
// The kernel walks over all of conntrack's buckets for it, some milliseconds long, whether there are connections or not. So
// Apply does not do it by itself: of many Services in a row one call is enough.
func (t *Table) Sweep() (int, error) {
	kinds := kinds{}
	for f, early := range t.early {
		if early {
			kinds[kind{family(f), TCP}] = t.state.untranslated
		}
	}
	t.early = [len(families)]bool{}
	n, err := t.forgetThose(kinds)
	if err != nil {
		t.unclean = true
	}
	return n, err
}

// kinds are the kinds of connections to list, with what tells which of them are to be deleted.
type kinds map[kind]func(flow, map[netip.Addr]bool) bool

// forgetThose deletes connections and returns how many.
func (t *Table) forgetThose(kinds kinds) (int, error) {
	nodePortAddrs := map[netip.Addr]bool{}
	for _, a := range t.state.static.NodePortAddresses {
		nodePortAddrs[a.Unmap()] = true
	}
	var stale []flow
	for k, wrong := range kinds {
		err := t.wire.flows(choice{kind: k, unanswered: k.p == TCP}, func(fl flow) {
			if wrong(fl, nodePortAddrs) {
				stale = append(stale, fl)
			}
		})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			// Without the module nf_conntrack_netlink nobody can look. The rules
			// hold all the same, and old connections end when they time out.
			t.log.Warn("stale connections cannot be listed", "protocol", k.p, "error", err)
			return 0, nil
		}
		if err != nil && !errors.Is(err, errInterrupted) {
			return 0, fmt.Errorf("list %s connections: %w", k.p, err)
		}
	}
	return len(stale), t.wire.forget(stale)
}

// kind is what connections are listed by.
type kind struct {
	f family
	p Proto
}
