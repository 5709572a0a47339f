package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// snapshot is what the kernel holds.
type snapshot struct {
	tables   [len(families)]tableSnapshot
	elements map[slot]string
}

type tableSnapshot struct {
	exists bool
	// foreign tells that the table is not as any version of ours would
	// leave it: it has to be made anew.
	foreign bool
	chains  map[string]chainSnapshot
}

type chainSnapshot struct {
	hook   hook // zero for a regular chain
	prints []string
}

// readTries bounds how often a dump is begun again because somebody changes the rules meanwhile.
const readTries = 20

// read dumps both tables. What packets and Relays wrote is left out.
func (w *wire) read() (*snapshot, error) {
	for try := 0; ; try++ {
		snap, err := w.readOnce()
		if errors.Is(err, errInterrupted) && try < readTries {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read back table %s: %w", TableName, err)
		}
		return snap, nil
	}
}

func (w *wire) readOnce() (*snapshot, error) {
	before, err := w.generation()
	if err != nil {
		return nil, err
	}
	snap := &snapshot{elements: map[slot]string{}}
	for _, f := range families {
		snap.tables[f].chains = map[string]chainSnapshot{}
		if err := w.readTable(f, snap); err != nil {
			return nil, err
		}
	}
	after, err := w.generation()
	if err != nil {
		return nil, err
	}
	if before != after {
		return nil, errInterrupted
	}
	return snap, nil
}

func (w *wire) readTable(f family, snap *snapshot) error {
	t := &snap.tables[f]
	if err := w.findTable(f, t); err != nil || !t.exists {
		return err
	}
	if err := w.readSets(f, t); err != nil || t.foreign {
		return err
	}
	if err := w.readChains(f, t); err != nil {
		return err
	}
	for id := range setCount {
		if id.isOthers() {
			continue
		}
		strange, err := w.readElements(f, id, func(e element) { snap.elements[e.slot] = e.data })
		if err != nil {
			return err
		}
		t.foreign = t.foreign || strange
	}
	return nil
}

func (w *wire) findTable(f family, t *tableSnapshot) error {
	return w.dump(nftMessage(unix.NFT_MSG_GETTABLE), f.proto(), nil, func(_ uint16, b []byte) {
		if text(attribute(b, unix.NFTA_TABLE_NAME)) == TableName {
			t.exists = true
			t.foreign = number(attribute(b, unix.NFTA_TABLE_FLAGS)) != 0
		}
	})
}

func nftMessage(typ uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | typ }

func inTable(b *buffer) { b.str(unix.NFTA_TABLE_NAME, TableName) }

// readSets checks that the sets are exactly ours.
func (w *wire) readSets(f family, t *tableSnapshot) error {
	specs := map[string]setSpec{}
	for id := range setCount {
		specs[id.String()] = id.spec(f)
	}
	err := w.dump(nftMessage(unix.NFT_MSG_GETSET), f.proto(), inTable, func(_ uint16, b []byte) {
		const anonymous = unix.NFT_SET_ANONYMOUS
		flags := number(attribute(b, unix.NFTA_SET_FLAGS))
		if flags&anonymous != 0 || text(attribute(b, unix.NFTA_SET_TABLE)) != TableName {
			return
		}
		name := text(attribute(b, unix.NFTA_SET_NAME))
		spec, known := specs[name]
		delete(specs, name)
		t.foreign = t.foreign || !known || flags != spec.flags ||
			number(attribute(b, unix.NFTA_SET_KEY_TYPE)) != spec.key.GetNFTMagic() ||
			number(attribute(b, unix.NFTA_SET_KEY_LEN)) != spec.key.Bytes ||
			spec.data.Bytes != 0 && number(attribute(b, unix.NFTA_SET_DATA_LEN)) != spec.data.Bytes
	})
	t.foreign = t.foreign || len(specs) > 0
	return err
}

func (w *wire) readChains(f family, t *tableSnapshot) error {
	err := w.dump(nftMessage(unix.NFT_MSG_GETCHAIN), f.proto(), nil, func(_ uint16, b []byte) {
		if text(attribute(b, unix.NFTA_CHAIN_TABLE)) != TableName {
			return
		}
		var c chainSnapshot
		if h := attribute(b, unix.NFTA_CHAIN_HOOK); h != nil {
			c.hook = hook{
				kind:     text(attribute(b, unix.NFTA_CHAIN_TYPE)),
				number:   number(attribute(h, unix.NFTA_HOOK_HOOKNUM)),
				priority: int32(number(attribute(h, unix.NFTA_HOOK_PRIORITY))),
			}
			t.foreign = t.foreign || number(attribute(b, unix.NFTA_CHAIN_POLICY)) != nfAccept
		}
		t.chains[text(attribute(b, unix.NFTA_CHAIN_NAME))] = c
	})
	if err != nil {
		return err
	}
	return w.dump(nftMessage(unix.NFT_MSG_GETRULE), f.proto(), inTable, func(_ uint16, b []byte) {
		name := text(attribute(b, unix.NFTA_RULE_CHAIN))
		c, ok := t.chains[name]
		if !ok || text(attribute(b, unix.NFTA_RULE_TABLE)) != TableName {
			return
		}
		print, _ := userdata.GetString(attribute(b, unix.NFTA_RULE_USERDATA), userdata.TypeComment)
		c.prints = append(c.prints, print)
		t.chains[name] = c
	})
}

// readElements calls each with every element of a set that could be ours, and tells whether there are others:
// "*" is an element without a key.
func (w *wire) readElements(f family, id setID, each func(element)) (strange bool, err error) {
	spec := id.spec(f)
	fill := func(b *buffer) {
		inTable(b)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, id.String())
	}
	err = w.dump(nftMessage(unix.NFT_MSG_GETSETELEM), f.proto(), fill, func(_ uint16, b []byte) {
		for typ, elem := range attributes(attribute(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			if typ != unix.NFTA_LIST_ELEM {
				continue
			}
			if e := parseElement(f, id, elem); spec.fits(e) {
				each(e)
			} else {
				strange = true
			}
		}
	})
	return strange, err
}

func parseElement(f family, id setID, b []byte) element {
	e := element{slot: slot{family: f, set: id}}
	for typ, data := range attributes(b) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = string(attribute(data, unix.NFTA_DATA_VALUE))
		case setElemKeyEnd:
			e.end = string(attribute(data, unix.NFTA_DATA_VALUE))
		case unix.NFTA_SET_ELEM_FLAGS:
			e.bound = number(data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_DATA:
			if id.isVerdictMap() {
				e.data = parseVerdict(attribute(data, unix.NFTA_DATA_VERDICT))
			} else {
				e.data = string(attribute(data, unix.NFTA_DATA_VALUE))
			}
		}
	}
	return e
}

func parseVerdict(b []byte) string {
	code := int32(number(attribute(b, unix.NFTA_VERDICT_CODE)))
	switch {
	case code == unix.NFT_GOTO:
		return "goto " + text(attribute(b, unix.NFTA_VERDICT_CHAIN))
	case attribute(b, unix.NFTA_VERDICT_CODE) != nil && code == 0:
		return "drop"
	}
	return "foreign"
}

// generation is the number of the kernel's last transaction.
func (w *wire) generation() (uint32, error) {
	var req buffer
	seq := w.next()
	start := req.message(nftMessage(unix.NFT_MSG_GETGEN), unix.NLM_F_REQUEST, unix.AF_UNSPEC, 0)
	req.done(start, seq)
	if err := w.send(req.b); err != nil {
		return 0, err
	}
	for {
		messages, err := w.receive()
		if err != nil {
			return 0, err
		}
		for _, m := range messages {
			if m.seq != seq {
				continue
			}
			if m.typ == unix.NLMSG_ERROR {
				return 0, answerError(m)
			}
			return number(attribute(m.data[genmsgLen:], unix.NFTA_GEN_ID)), nil
		}
	}
}

// past is what the kernel knows of the Services' places.
type kernelPast struct {
	tokens  map[frontKey]uint32
	shorts  map[frontKey]uint32
	slots   map[uint32]map[uint32]netip.AddrPort
	classes [len(families)]map[class]uint16
}

func (s *snapshot) past() *kernelPast {
	k := &kernelPast{tokens: map[frontKey]uint32{}, shorts: map[frontKey]uint32{}, slots: map[uint32]map[uint32]netip.AddrPort{}}
	for _, f := range families {
		k.classes[f] = map[class]uint16{}
	}
	for at, data := range s.elements {
		k.learn(at, data)
	}
	return k
}

func (k *kernelPast) learn(at slot, data string) {
	switch at.set {
	case frontends, nodeports:
		k.tokens[at.family.frontOf(at.set, at.key)] = native(data) >> classBits
	case shortCircuits, shortCircuitsPorts:
		k.shorts[at.family.frontOf(at.set, at.key)] = native(data) >> classBits
	case endpoints:
		id := native(at.key) >> classBits
		if k.slots[id] == nil {
			k.slots[id] = map[uint32]netip.AddrPort{}
		}
		k.slots[id][native(at.key[4:])] = at.family.backendOf(data)
	case classes, plainClasses, remembers:
		name := "drop"
		if len(data) > len("goto ") {
			name = data[len("goto "):]
		}
		if c, ok := parseClass(name); ok && c.dispatcher() == at.set {
			k.classes[at.family][c] = uint16(native(at.key))
		}
	default:
	}
}

func (k *kernelPast) of() past {
	return past{
		target: func(key frontKey, short bool) (uint32, bool) {
			id, ok := k.tokens[key]
			if short {
				id, ok = k.shorts[key]
			}
			return id, ok && id != 0
		},
		slots: func(id uint32) []netip.AddrPort {
			at := k.slots[id]
			out := make([]netip.AddrPort, 0, len(at))
			for i := range uint32(len(at)) {
				if e, ok := at[i]; ok {
					out = append(out, e)
				}
			}
			return out
		},
	}
}
