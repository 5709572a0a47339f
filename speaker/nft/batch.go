package nft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// chunkBytes keeps the list of elements in one message well under the 64 KiB
// that an attribute can hold.
const chunkBytes = 32 << 10

// elementBytes is about what an element takes in a message.
const elementBytes = 56

// batch writes one transaction.
type batch struct {
	buffer
	wire  *wire
	first uint32
	last  uint32 // sequence number of the last message
	at    int    // where the last message starts
	names []string
	sets  uint32 // anonymous sets so far
}

func newBatch(w *wire) *batch {
	b := &batch{wire: w}
	b.first = w.next()
	start := b.message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.done(start, b.first)
	b.names = append(b.names, "commit")
	return b
}

// begin opens an nftables message about one of our tables.
func (b *batch) begin(what string, typ, flags uint16, f family) int {
	start := b.message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, unix.NLM_F_REQUEST|flags, f.proto(), 0)
	b.str(unix.NFTA_TABLE_NAME, TableName)
	b.names = append(b.names, what)
	return start
}

func (b *batch) finish(start int) {
	b.last, b.at = b.wire.next(), start
	b.done(start, b.last)
}

// empty tells whether there is nothing to commit.
func (b *batch) empty() bool { return b.last == 0 }

// commit sends the transaction. Only its last message is acknowledged: an
// answer for each would not fit any buffer.
func (b *batch) commit() error {
	b.b[b.at+6] |= unix.NLM_F_ACK // flags are in the machine's order, but NLM_F_ACK is in the low byte of both
	last := b.last
	start := b.message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.done(start, b.wire.next())
	if b.err != nil {
		return b.err
	}
	return b.wire.transact(b.b, b.first, last, func(seq uint32) string {
		if i := int(seq - b.first); i < len(b.names) {
			return b.names[i]
		}
		return "?"
	})
}

// write puts a whole plan into the batch. Elements go before the chains they
// lead to, and come after them.
func (b *batch) write(c *changes) (added, deleted, rules int) {
	for _, f := range c.recreate {
		b.finish(b.begin("delete table", unix.NFT_MSG_DELTABLE, 0, f))
	}
	for _, f := range c.create {
		b.table(f)
	}
	del, add := c.net()
	b.b = slices.Grow(b.b, (len(del)+len(add))*elementBytes)
	b.elements(unix.NFT_MSG_DELSETELEM, 0, del)
	for _, ch := range c.chains {
		b.chain(ch)
	}
	for _, ch := range c.chains {
		for _, r := range ch.chain.rules {
			b.rule(ch.family, ch.chain.name, r)
			rules++
		}
	}
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, add)
	for _, r := range c.gone {
		b.flush(r)
	}
	for _, r := range c.gone {
		b.delChain(r)
	}
	return len(add), len(del), rules
}

func (b *batch) table(f family) {
	start := b.begin("add table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, f)
	b.u32(unix.NFTA_TABLE_FLAGS, 0)
	b.finish(start)
	for id := range setCount {
		b.set(f, id.spec(f))
	}
}

func (b *batch) set(f family, s setSpec) {
	start := b.begin("add set "+s.name, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, f)
	b.sets++
	b.str(unix.NFTA_SET_NAME, s.name)
	b.u32(unix.NFTA_SET_FLAGS, s.flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, s.key.GetNFTMagic())
	b.u32(unix.NFTA_SET_KEY_LEN, s.key.Bytes)
	if s.data.Name == nftables.TypeVerdict.Name {
		b.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	} else if s.data.Name != "" {
		b.u32(unix.NFTA_SET_DATA_TYPE, s.data.GetNFTMagic())
		b.u32(unix.NFTA_SET_DATA_LEN, s.data.Bytes)
	}
	b.u32(unix.NFTA_SET_ID, b.sets)
	if s.timeout != 0 {
		b.u64(unix.NFTA_SET_TIMEOUT, s.timeout)
	}
	b.describe(s)
	if s.userdata != nil {
		b.bytes(unix.NFTA_SET_USERDATA, s.userdata)
	}
	b.finish(start)
}

func (b *batch) describe(s setSpec) {
	if s.size == 0 && s.fields == nil {
		return
	}
	desc := b.nest(unix.NFTA_SET_DESC)
	if s.size != 0 {
		b.u32(unix.NFTA_SET_DESC_SIZE, s.size)
	}
	if s.fields != nil {
		concat := b.nest(setDescConcat)
		for _, n := range s.fields {
			field := b.nest(unix.NFTA_LIST_ELEM)
			b.u32(setFieldLen, uint32(n))
			b.end(field)
		}
		b.end(concat)
	}
	b.end(desc)
}

// elements writes a message for each run of elements of the same set.
func (b *batch) elements(typ, flags uint16, es []element) {
	for i := 0; i < len(es); {
		f, set := es[i].family, es[i].set
		start := b.begin(set.String()+" elements", typ, flags, f)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, set.String())
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for ; i < len(es) && es[i].family == f && es[i].set == set && len(b.b)-list < chunkBytes; i++ {
			b.element(es[i], typ == unix.NFT_MSG_NEWSETELEM)
		}
		b.end(list)
		b.finish(start)
	}
}

func (b *batch) element(e element, withData bool) {
	elem := b.nest(unix.NFTA_LIST_ELEM)
	if e.bound {
		b.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	b.value(unix.NFTA_SET_ELEM_KEY, e.key)
	if e.end != "" {
		b.value(setElemKeyEnd, e.end)
	}
	if withData && e.data != "" {
		if e.set.isVerdictMap() {
			b.verdict(e.data)
		} else {
			b.value(unix.NFTA_SET_ELEM_DATA, e.data)
		}
	}
	b.end(elem)
}

// setDescConcat is NFTA_SET_DESC_CONCAT.
const setDescConcat = 2

// setFieldLen is NFTA_SET_FIELD_LEN.
const setFieldLen = 1

// setElemKeyEnd is NFTA_SET_ELEM_KEY_END.
const setElemKeyEnd = 10

func (b *batch) value(typ uint16, raw string) {
	data := b.nest(typ)
	b.raw(unix.NFTA_DATA_VALUE, raw)
	b.end(data)
}

func (b *batch) verdict(v string) {
	data := b.nest(unix.NFTA_SET_ELEM_DATA)
	verdict := b.nest(unix.NFTA_DATA_VERDICT)
	if to, ok := strings.CutPrefix(v, "goto "); ok {
		code := int32(unix.NFT_GOTO)
		b.u32(unix.NFTA_VERDICT_CODE, uint32(code))
		b.str(unix.NFTA_VERDICT_CHAIN, to)
	} else {
		b.u32(unix.NFTA_VERDICT_CODE, uint32(expr.VerdictDrop))
	}
	b.end(verdict)
	b.end(data)
}

// chain adds a chain, or empties it if it exists.
func (b *batch) chain(c chainChange) {
	if c.exists {
		b.flush(chainRef{c.family, c.chain.name})
		return
	}
	start := b.begin("add chain "+c.chain.name, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, c.family)
	b.str(unix.NFTA_CHAIN_NAME, c.chain.name)
	if h := c.chain.hook; h != nil {
		hook := b.nest(unix.NFTA_CHAIN_HOOK)
		b.u32(unix.NFTA_HOOK_HOOKNUM, h.number)
		b.u32(unix.NFTA_HOOK_PRIORITY, uint32(h.priority))
		b.end(hook)
		b.str(unix.NFTA_CHAIN_TYPE, h.kind)
		b.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	}
	b.finish(start)
}

// nfAccept is NF_ACCEPT, a chain's policy.
const nfAccept = 1

func (b *batch) flush(r chainRef) {
	start := b.begin("flush chain "+r.name, unix.NFT_MSG_DELRULE, 0, r.family)
	b.str(unix.NFTA_RULE_CHAIN, r.name)
	b.finish(start)
}

func (b *batch) delChain(r chainRef) {
	start := b.begin("delete chain "+r.name, unix.NFT_MSG_DELCHAIN, 0, r.family)
	b.str(unix.NFTA_CHAIN_NAME, r.name)
	b.finish(start)
}

func (b *batch) rule(f family, chain string, r rule) {
	exprs := r.exprs
	if r.ports {
		exprs = append(b.protocols(f), exprs...)
	}
	start := b.begin(fmt.Sprintf("add rule %q to %s", r.why, chain), unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, f)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	list := b.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		raw, err := expr.Marshal(f.proto(), e)
		if err != nil {
			b.err = fmt.Errorf("marshal %T: %w", e, err)
			return
		}
		b.head(unix.NFTA_LIST_ELEM|nested, len(raw))
		b.b = append(b.b, raw...)
		b.pad()
	}
	b.end(list)
	b.bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.fingerprint(f)))
	b.finish(start)
}

// protocols is "meta l4proto { tcp, udp, sctp }" with the anonymous set it needs.
func (b *batch) protocols(f family) []expr.Any {
	const name = "__set%d"
	b.sets++
	start := b.begin("add protocols", unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, f)
	b.str(unix.NFTA_SET_NAME, name)
	b.u32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT)
	b.u32(unix.NFTA_SET_KEY_TYPE, nftables.TypeInetProto.GetNFTMagic())
	b.u32(unix.NFTA_SET_KEY_LEN, nftables.TypeInetProto.Bytes)
	b.u32(unix.NFTA_SET_ID, b.sets)
	b.describe(setSpec{size: 3})
	b.finish(start)
	start = b.begin("add protocols", unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, f)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, name)
	b.u32(unix.NFTA_SET_ELEM_LIST_SET_ID, b.sets)
	list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for _, p := range []Proto{TCP, UDP, SCTP} {
		elem := b.nest(unix.NFTA_LIST_ELEM)
		b.value(unix.NFTA_SET_ELEM_KEY, string([]byte{byte(p)}))
		b.end(elem)
	}
	b.end(list)
	b.finish(start)
	return []expr.Any{loadProto(reg1), &expr.Lookup{SourceRegister: reg1, SetName: name, SetID: b.sets}}
}
