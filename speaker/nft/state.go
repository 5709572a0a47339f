package nft

import (
	"cmp"
	"net/netip"
	"slices"
)

// state is what the tables shall hold: the Services with the numbers they were
// given. Its methods write each consequence of a change into a plan.
type state struct {
	static   Static
	services map[string]*placed
	owners   map[frontKey]string
	rivals   map[frontKey][]string // all claims on a contested frontend, best first
	eclipsed map[frontKey]bool     // frontends that are not programmed, see eclipse
	counts   map[counted]int
	targets  pool
	tables   [len(families)]tableState
	plan     *changes
	// full tells that numbers ran out: some frontends are rejected.
	full bool
	// endpoints counts the endpoints of all targets, elements what all sets and maps hold.
	endpoints, elements int
}

// tableState is what differs by family.
type tableState struct {
	classes map[class]uint16
	numbers pool
	chains  map[string][]string // fingerprints of the rules
	// past are the numbers the kernel knows classes by.
	past map[class]uint16
}

// counted is an element that several Services may need.
type counted struct {
	set  setID
	addr netip.Addr
}

// placed is a Service with its place in the table.
type placed struct {
	svc Service
	ids []uint32           // per target
	at  [][]netip.AddrPort // per target: what its slots lead to
}

func newState() *state {
	st := &state{
		services: map[string]*placed{}, owners: map[frontKey]string{}, rivals: map[frontKey][]string{}, eclipsed: map[frontKey]bool{},
		counts: map[counted]int{}, targets: newPool(maxTarget), plan: &changes{},
	}
	for _, f := range families {
		st.tables[f] = tableState{classes: map[class]uint16{}, numbers: newPool(classMask), chains: map[string][]string{}}
	}
	return st
}

// put replaces what a Service wishes; a zero Service is gone.
func (st *state) put(name string, s Service, past past) {
	old := st.services[name]
	var now *placed
	if !s.IsZero() {
		now = st.arrange(s, past)
	}
	st.giveBack(old, now)
	keys := frontKeys(old, now)
	all := append(keys, st.behind(keys)...)
	for _, k := range all {
		st.emitOwned(k, true)
	}
	if now == nil {
		delete(st.services, name)
	} else {
		st.services[name] = now
	}
	for _, k := range keys {
		st.contend(k, name, now != nil && now.find(k) != nil)
	}
	for _, k := range all {
		st.emitOwned(k, false)
	}
	st.emitSlots(old, now)
	st.count(old, -1)
	st.count(now, +1)
	st.endpoints += now.size() - old.size()
}

// frontKeys are the frontends of either, each once.
func frontKeys(ps ...*placed) []frontKey {
	var keys []frontKey
	seen := map[frontKey]bool{}
	for _, p := range ps {
		if p == nil {
			continue
		}
		for _, f := range p.svc.Frontends {
			if k := f.key(); !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// size is how many endpoints its targets have.
func (p *placed) size() int {
	n := 0
	if p != nil {
		for _, t := range p.svc.Targets {
			n += len(t.Endpoints)
		}
	}
	return n
}

// find returns the first frontend with that key, or nil.
func (p *placed) find(k frontKey) *Frontend {
	for i := range p.svc.Frontends {
		if p.svc.Frontends[i].key() == k {
			return &p.svc.Frontends[i]
		}
	}
	return nil
}

// contend settles who gets a frontend after a Service's claim on it changed.
func (st *state) contend(k frontKey, name string, claims bool) {
	all := st.rivals[k]
	owner, owned := st.owners[k]
	switch {
	case len(all) > 0:
	case owned && owner != name:
		all = []string{owner}
	case claims: // nobody else does
		st.owners[k] = name
		return
	}
	all = slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == name })
	if claims {
		all = append(all, name)
	}
	delete(st.rivals, k)
	delete(st.owners, k)
	if len(all) == 0 {
		return
	}
	if len(all) > 1 {
		slices.SortFunc(all, func(a, b string) int { return st.compareClaims(k, a, b) })
		st.rivals[k] = all
	}
	st.owners[k] = all[0]
}

// compareClaims sorts the better claim first: how the frontend was given out, then age, then name.
func (st *state) compareClaims(k frontKey, a, b string) int {
	pa, pb := st.services[a], st.services[b]
	return cmp.Or(
		cmp.Compare(pa.find(k).Rank, pb.find(k).Rank),
		cmp.Compare(pa.svc.Created, pb.svc.Created),
		cmp.Compare(a, b),
	)
}

// emitOwned writes a frontend's elements, as its present owner has them, into the plan.
func (st *state) emitOwned(k frontKey, gone bool) {
	was := st.eclipsed[k]
	if gone {
		delete(st.eclipsed, k)
	}
	owner, owned := st.owners[k]
	if !owned || (gone && was) {
		return
	}
	if !gone && st.eclipse(k, owner) {
		st.eclipsed[k] = true
		return
	}
	p := st.services[owner]
	for _, e := range st.frontElements(p, *p.find(k)) {
		st.plan.events = append(st.plan.events, event{e, gone})
	}
}

// frontElements are the elements of one frontend.
func (st *state) frontElements(p *placed, f Frontend) []element {
	k := f.key()
	fam, raw := k.family(), k.raw()
	to, short := frontends, shortCircuits
	if k.isNodePort() {
		to, short = nodeports, shortCircuitsPorts
	}
	out := []element{{slot{family: fam, set: to, key: raw}, st.token(fam, p, f.Target, classOf(p.svc, f))}}
	if f.Kind == Local {
		if c := targetClass(p.svc, f.Short, plain, false); c.stage == plain {
			out = append(out, element{slot{family: fam, set: short, key: raw}, st.token(fam, p, f.Short, c)})
		}
	}
	if f.Guarded && !k.isNodePort() {
		for _, r := range ranges(fam, f.Sources) {
			out = append(out, element{slot{family: fam, set: allowedSources,
				key: raw + rawAddr(r.From()), end: raw + rawAddr(r.To())}, ""})
		}
	}
	return out
}

// token is the raw token of a target and class, which get their numbers and
// chains if they had none.
func (st *state) token(fam family, p *placed, target int, c class) string {
	number, ok := st.class(fam, c)
	if !ok {
		number, _ = st.class(fam, class{stage: rejecting})
	}
	id := uint32(0)
	if c.slots > 0 {
		id = p.ids[target]
	}
	if c.slots > 0 && id == 0 {
		number, _ = st.class(fam, class{stage: rejecting})
	}
	return rawToken(token(id, number))
}

// emitSlots writes the difference between the endpoints of two versions of a Service.
func (st *state) emitSlots(old, now *placed) {
	if old == nil { // as all are at a start
		for i, id := range now.numbers() {
			st.diffSlots(id, nil, now.at[i])
		}
		return
	}
	before := map[uint32][]netip.AddrPort{}
	for i, id := range old.ids {
		before[id] = old.at[i]
	}
	for i, id := range now.numbers() {
		st.diffSlots(id, before[id], now.at[i])
		delete(before, id)
	}
	for i, id := range old.ids {
		if _, left := before[id]; left {
			st.diffSlots(id, old.at[i], nil)
		}
	}
}

// numbers are those of the targets; none if there is no Service.
func (p *placed) numbers() []uint32 {
	if p == nil {
		return nil
	}
	return p.ids
}

func (st *state) diffSlots(id uint32, have, want []netip.AddrPort) {
	if id == 0 {
		return
	}
	for i := range max(len(have), len(want)) {
		if i < len(have) && i < len(want) && have[i] == want[i] {
			continue
		}
		if i < len(have) {
			st.plan.drop(slotElement(id, i, have[i]))
		}
		if i < len(want) {
			st.plan.put(slotElement(id, i, want[i]))
		}
	}
}

func slotElement(id uint32, i int, to netip.AddrPort) element {
	return element{slot{family: familyOf(to.Addr()), set: endpoints, key: rawSlot(id, i)}, rawBackend(to)}
}

// count adds to the use of the elements that Services share.
func (st *state) count(p *placed, by int) {
	if p == nil {
		return
	}
	for _, a := range p.svc.Addresses {
		st.countOne(counted{serviceIPs, a.Unmap()}, by)
	}
	for _, a := range p.svc.Hairpin {
		st.countOne(counted{hairpin, a.Unmap()}, by)
	}
}

func (st *state) countOne(c counted, by int) {
	before := st.counts[c]
	st.counts[c] = before + by
	key := rawAddr(c.addr)
	if c.set == hairpin {
		key += key
	}
	e := element{slot{family: familyOf(c.addr), set: c.set, key: key}, ""}
	switch {
	case before == 0 && by > 0:
		st.plan.put(e)
	case before+by == 0:
		st.plan.drop(e)
		delete(st.counts, c)
	}
}
