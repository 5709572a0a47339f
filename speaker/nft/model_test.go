package nft

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawSome draws a Service out of few addresses and ports, so that many of
// them want the same.
func drawSome(t *rapid.T) Service {
	if rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
		return Service{}
	}
	s := Service{Created: rapid.Int64Range(0, 3).Draw(t, "created")}
	for range rapid.IntRange(0, 3).Draw(t, "targets") {
		target := Target{Endpoints: someBackends(t, "endpoints", 5)}
		if rapid.IntRange(0, 3).Draw(t, "affinity") == 0 {
			target.Affinity = rapid.Uint32Range(1, 2).Draw(t, "timeout")
		}
		s.Targets = append(s.Targets, target)
	}
	for range rapid.IntRange(0, 4).Draw(t, "frontends") {
		f := Frontend{
			Addr:   netip.AddrFrom4([4]byte{10, 96, 0, byte(rapid.IntRange(0, 3).Draw(t, "address"))}),
			Proto:  TCP,
			Port:   uint16(rapid.IntRange(80, 81).Draw(t, "port")),
			Kind:   Kind(rapid.IntRange(0, int(Local)).Draw(t, "kind")),
			Target: rapid.IntRange(None, 2).Draw(t, "target"), Short: rapid.IntRange(None, 2).Draw(t, "short"),
			Rank:    Rank(rapid.IntRange(0, 2).Draw(t, "rank")),
			Guarded: rapid.Bool().Draw(t, "guarded"),
		}
		if rapid.IntRange(0, 3).Draw(t, "nodeport") == 0 {
			f.Addr = netip.IPv4Unspecified()
		}
		if f.Guarded {
			f.Sources = prefixes(rapid.SliceOfN(rapid.SampledFrom([]string{
				"0.0.0.0/0", "198.51.100.0/24", "198.51.100.128/25", "198.51.100.200/32", "203.0.113.0/24",
			}), 1, 3).Draw(t, "sources")...)
		}
		s.Frontends = append(s.Frontends, f)
	}
	s.Addresses = addrs(rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2"}).Draw(t, "refuses"))
	s.Hairpin = addrs(rapid.SampledFrom([]string{"10.244.0.1", "10.244.0.2"}).Draw(t, "hairpin"))
	return s
}

// model is a kernel that only knows elements.
type model map[slot]string

// play makes the transactions of a plan, and refuses what the kernel would.
func (m model) play(t *rapid.T, plan *changes) {
	for _, part := range plan.inOrder() {
		del, add := part.net()
		for _, e := range del {
			if have, there := m[e.slot]; !there || have != e.data {
				t.Fatalf("deletes %s, which is not there", e)
			}
			delete(m, e.slot)
		}
		for _, e := range add {
			if _, there := m[e.slot]; there {
				t.Fatalf("adds %s, which is there", e)
			}
			for s := range m {
				if s.overlaps(e.slot) {
					t.Fatalf("adds %s, which overlaps %s", e, s.keyString())
				}
			}
			m[e.slot] = e.data
		}
	}
}

// routes follows the maps as a packet would and says where each frontend leads.
func (m model) routes(t *rapid.T) map[string]string {
	out := map[string]string{}
	for at, data := range m {
		switch at.set {
		case frontends, nodeports, shortCircuits, shortCircuitsPorts:
			via := classes
			if at.set == shortCircuits || at.set == shortCircuitsPorts {
				via = plainClasses
			}
			out[at.set.String()+" "+at.keyString()] = m.follow(t, at.family, via, native(data))
		case serviceIPs, hairpin, allowedSources:
			out[at.set.String()+" "+at.keyString()] = "member"
		default:
		}
	}
	return out
}

func (m model) follow(t *rapid.T, f family, via setID, token uint32) string {
	verdict, there := m[slot{family: f, set: via, key: rawToken(token & classMask)}]
	if !there {
		t.Fatalf("class %d is not in %s", token&classMask, via)
	}
	if verdict == "drop" {
		return verdict
	}
	c, ok := parseClass(verdict[len("goto "):])
	if !ok {
		t.Fatalf("no such class: %s", verdict)
	}
	var eps []netip.AddrPort
	for i := range int(c.slots) {
		data, there := m[slot{family: f, set: endpoints, key: rawSlot(token>>classBits, i)}]
		if !there {
			t.Fatalf("target %d has no slot %d of %d", token>>classBits, i, c.slots)
		}
		eps = append(eps, f.backendOf(data))
	}
	slices.SortFunc(eps, netip.AddrPort.Compare)
	c.slots = 0
	return fmt.Sprintf("%s %v", c.chain(), eps)
}

// TestPlansAdd: any history of changes, each as a plan of its own, leads
// packets where one plan from nothing does; no plan deletes what is not there
// or adds what is; and a plan changes nothing when nothing changed.
func TestPlansAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		static := sampleStatic
		static.NodePortAddresses = addrs("10.96.0.3") // some claim it as theirs
		kernel, st := model{}, newState()
		st.setStatic(static)
		kernel.play(t, st.plan)
		final := map[string]Service{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			name := rapid.SampledFrom([]string{"a/a", "b/b", "c/c"}).Draw(t, "name")
			svc := drawSome(t).clean()
			final[name] = svc
			for again := range 2 {
				st.plan = &changes{}
				st.put(name, svc, pastOf(st.services[name]))
				if del, add := st.plan.net(); again == 1 && len(del)+len(add) > 0 {
					t.Fatalf("the same again changes:\n%s", st.plan)
				}
				kernel.play(t, st.plan)
			}
		}
		fresh, other := model{}, newState()
		other.setStatic(static)
		for _, name := range byAge(final) {
			other.put(name, final[name], past{})
		}
		fresh.play(t, other.plan)
		if diff := cmp.Diff(fresh.routes(t), kernel.routes(t)); diff != "" {
			t.Fatalf("step by step leads elsewhere (-at once +step by step):\n%s", diff)
		}
		if used := st.targets.used(); used != st.targetCount() {
			t.Fatalf("%d target numbers are taken for %d targets", used, st.targetCount())
		}
		// A restart adopts all of it.
		snap := &snapshot{elements: map[slot]string{}}
		for at, data := range kernel {
			snap.elements[at] = data
		}
		born := newState()
		learned := snap.past()
		for _, f := range families {
			snap.tables[f] = tableSnapshot{exists: true, chains: map[string]chainSnapshot{}}
			born.tables[f].past = learned.classes[f]
		}
		born.setStatic(static)
		for _, name := range byAge(final) {
			born.put(name, final[name], learned.of())
		}
		plan := reconcile(snap, born)
		kernel.play(t, plan)
		if diff := cmp.Diff(fresh.routes(t), kernel.routes(t)); diff != "" {
			t.Fatalf("a restart leads elsewhere (-at once +restarted):\n%s", diff)
		}
		if len(st.rivals)+len(st.eclipsed) > 0 {
			return // what a loser had ready is not known by a frontend
		}
		for _, e := range plan.add {
			t.Fatalf("a restart adds %s", e)
		}
	})
}

func (p *pool) used() int {
	n := 0
	for _, w := range p.taken {
		n += bits.OnesCount64(w)
	}
	return n
}

func (st *state) targetCount() int {
	n := 0
	for _, p := range st.services {
		n += len(p.ids)
	}
	return n
}
