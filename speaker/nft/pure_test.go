package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func someBackends(t *rapid.T, name string, most int) []netip.AddrPort {
	ids := rapid.SliceOfNDistinct(rapid.IntRange(0, 60), 0, most, rapid.ID[int]).Draw(t, name)
	slices.Sort(ids)
	var out []netip.AddrPort
	for _, i := range ids {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), 80))
	}
	return out
}

// TestSettle: whoever stays keeps its slot unless it has to fill a hole, and
// nothing else changes.
func TestSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := settle(nil, someBackends(t, "have", 20))
		if rapid.Bool().Draw(t, "shuffled") {
			slices.Reverse(have)
		}
		want := someBackends(t, "want", 20)
		got := settle(have, want)
		sorted := slices.SortedFunc(slices.Values(got), netip.AddrPort.Compare)
		if !slices.Equal(sorted, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		gone, came := 0, 0
		for _, e := range have {
			if !slices.Contains(want, e) {
				gone++
			}
		}
		for _, e := range want {
			if !slices.Contains(have, e) {
				came++
			}
		}
		changed := 0
		for i := range max(len(have), len(got)) {
			if i >= len(have) || i >= len(got) || have[i] != got[i] {
				changed++
			}
		}
		// Each one that goes leaves a hole and maybe moves the last.
		if changed > came+2*gone {
			t.Fatalf("%d slots changed for %d gone and %d come: %v -> %v", changed, gone, came, have, got)
		}
	})
}

// TestRing: even shares, the same for any process, and few changes.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		eps := someBackends(t, "endpoints", 12)
		if len(eps) < 2 {
			return
		}
		before := ring(eps)
		count := map[netip.AddrPort]int{}
		for _, e := range before {
			count[e]++
		}
		for _, e := range eps {
			if share := len(before) / len(eps); count[e] < share || count[e] > share+1 {
				t.Fatalf("%s has %d of %d slots among %d", e, count[e], len(before), len(eps))
			}
		}
		gone := rapid.SampledFrom(eps).Draw(t, "gone")
		after := ring(slices.DeleteFunc(slices.Clone(eps), func(e netip.AddrPort) bool { return e == gone }))
		moved := 0
		for i := range before {
			if before[i] != gone && before[i] != after[i] {
				moved++
			}
		}
		if moved > len(before)/8 {
			t.Fatalf("%d of %d slots moved that had no reason to (%d endpoints)", moved, len(before), len(eps))
		}
	})
}

// TestRingGrows: few flows change endpoint when one comes or goes, also where
// the ring gets another size.
func TestRingGrows(t *testing.T) {
	most := ringSizes[len(ringSizes)-1]
	for _, n := range []int{2, 3, 11, 12, 50, 51, 52, 203, 204, 250} {
		all := member(0, n+1).Targets[0].Endpoints
		before, after := ring(all[:n]), ring(all)
		come, moved := 0, 0
		for flow := range most {
			was, is := before[flow/(most/uint32(len(before)))], after[flow/(most/uint32(len(after)))]
			switch {
			case is == all[n]:
				come++
			case is != was:
				moved++
			}
		}
		if share := int(most) / (n + 1); come < share*19/20 || come > share*21/20 || moved > int(most)/12 {
			t.Errorf("from %d to %d endpoints: %d of %d flows go to the new one, %d move among the others", n, n+1, come, most, moved)
		}
	}
}

func TestRingSizes(t *testing.T) {
	for n, want := range map[int]uint32{1: 256, 12: 256, 13: 1024, 51: 1024, 52: 4096, 205: 16384, 20000: 16384} {
		if got := ringSize(n); got != want {
			t.Errorf("%d endpoints: %d slots, want %d", n, got, want)
		}
	}
	if got := ring(nil); got != nil {
		t.Errorf("no endpoints: %v", got)
	}
}

// TestClassNames: a class's chain name says all of it.
func TestClassNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := class{stage: stage(rapid.IntRange(0, int(remembering)).Draw(t, "stage"))}
		if c.stage >= clustering && c.stage <= plain {
			c.slots = rapid.Uint32().Draw(t, "slots")
			c.hash = rapid.Bool().Draw(t, "hash")
			c.sticky = rapid.Uint32().Draw(t, "sticky")
		}
		if c.stage == remembering {
			c.sticky = rapid.Uint32Min(1).Draw(t, "sticky")
		} else {
			c.guarded = rapid.Bool().Draw(t, "guarded")
		}
		back, ok := parseClass(c.chain())
		if !ok || back != c {
			t.Fatalf("%+v -> %q -> %+v", c, c.chain(), back)
		}
	})
	for _, foreign := range []string{"", "services", "plain", "plain-", "guarded-", "local-common", "plain-1-2-3", "remember-prerouting", "plain-01"} {
		if c, ok := parseClass(foreign); ok {
			t.Errorf("%q is taken for %+v", foreign, c)
		}
	}
}

// TestNet: the plan's net effect is what playing its events would do.
func TestNet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		play := map[string]string{}
		var c changes
		start := map[string]string{}
		for i := range rapid.IntRange(0, 4).Draw(t, "before") {
			play[fmt.Sprint(i)], start[fmt.Sprint(i)] = "0", "0"
		}
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			key := fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "key"))
			e := element{slot: slot{set: endpoints, key: key}}
			if data, there := play[key]; there {
				e.data = data
				c.drop(e)
				delete(play, key)
			} else {
				e.data = fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "data"))
				c.put(e)
				play[key] = e.data
			}
		}
		del, add := c.net()
		got := maps.Clone(start)
		for _, e := range del {
			if got[e.key] != e.data {
				t.Fatalf("deletes %q with %q", e.key, e.data)
			}
			delete(got, e.key)
		}
		for _, e := range add {
			if _, there := got[e.key]; there {
				t.Fatalf("adds %q twice", e.key)
			}
			got[e.key] = e.data
		}
		if diff := cmp.Diff(play, got); diff != "" {
			t.Fatal(diff)
		}
		if len(del)+len(add) > 2*7 {
			t.Fatalf("%d changes for 7 elements", len(del)+len(add))
		}
	})
}

func TestPool(t *testing.T) {
	p := newPool(3)
	if got := []uint32{p.any(), p.any(), p.any(), p.any()}; !slices.Equal(got, []uint32{1, 2, 3, 0}) {
		t.Errorf("got %v", got)
	}
	p.give(2)
	if p.take(0) || p.take(4) || p.take(1) || !p.take(2) {
		t.Error("take is wrong")
	}
	p.give(1)
	p.give(3)
	if got := p.any(); got != 1 {
		t.Errorf("got %d, want 1: it goes around", got)
	}
	if got := p.any(); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

// TestNoNumbersLeft: what cannot be numbered is refused, and works again later.
func TestNoNumbersLeft(t *testing.T) {
	st := newState()
	st.setStatic(sampleStatic)
	st.targets = newPool(1)
	st.put("a/a", member(1, 2), past{})
	st.put("a/b", member(2, 2), past{})
	if !st.full {
		t.Error("not noticed")
	}
	_, add := st.plan.net()
	for _, e := range add {
		if e.set == frontends && strings.Contains(e.String(), "10.96.0.2") && native(e.data)>>classBits != 0 {
			t.Errorf("leads to a target it does not have: %s", e)
		}
	}
	for st.tables[v4].numbers.any() != 0 {
		continue
	}
	st.put("a/c", Service{Targets: []Target{{Endpoints: backends("10.0.0.1:1")}},
		Frontends: []Frontend{{Addr: netip.MustParseAddr("10.96.0.9"), Proto: TCP, Port: 1, Kind: Local, Target: 0, Short: 0}}}, past{})
}

func TestAttributeTooLong(t *testing.T) {
	var b buffer
	start := b.nest(1)
	b.raw(2, strings.Repeat("x", 40000))
	b.raw(2, strings.Repeat("x", 40000))
	b.end(start)
	if !errors.Is(b.err, errAttrTooLong) {
		t.Errorf("a nested attribute of 80 kB: %v", b.err)
	}
	b = buffer{}
	b.raw(1, strings.Repeat("x", 70000))
	if !errors.Is(b.err, errAttrTooLong) {
		t.Errorf("an attribute of 70 kB: %v", b.err)
	}
}

// FuzzMessages: whatever the kernel (or somebody in its place) sends is read without a crash.
func FuzzMessages(f *testing.F) {
	var b buffer
	start := b.message(nftMessage(unix.NFT_MSG_NEWSETELEM), 0, unix.NFPROTO_IPV4, 0)
	b.str(unix.NFTA_TABLE_NAME, TableName)
	(&batch{buffer: b}).element(element{slot{set: endpoints, key: rawSlot(1, 2)}, rawBackend(netip.MustParseAddrPort("1.2.3.4:5"))}, true)
	b.done(start, 1)
	f.Add(b.b)
	f.Fuzz(func(_ *testing.T, in []byte) {
		for _, m := range split(in) {
			_ = answerError(m)
			if len(m.data) < genmsgLen {
				continue
			}
			parseFlow(m.data[genmsgLen:])
			for id := range setCount {
				parseElement(v4, id, m.data[genmsgLen:])
			}
		}
	})
}

func TestPrepareKernel(t *testing.T) {
	base := t.TempDir()
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1\n", "ipv6/conf/all/forwarding": "0\n",
		"netfilter/nf_conntrack_tcp_be_liberal": "0\n", "netfilter/nf_conntrack_max": "65536\n",
		"netfilter/nf_conntrack_tcp_timeout_established": "432000\n", "netfilter/nf_conntrack_tcp_timeout_close_wait": "60\n",
	} {
		file := filepath.Join(base, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(value), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got := PrepareKernel(base, 2, false)
	if diff := cmp.Diff(Kernel{ForwardsIPv4: true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"nf_conntrack_tcp_timeout_close_wait": "3600", "nf_conntrack_max": "131072"} {
		if b, err := os.ReadFile(filepath.Join(base, "netfilter", name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	if got := PrepareKernel(base, 2, true); !got.Liberal || len(got.Problems) > 0 {
		t.Errorf("asked to be liberal, it is %+v", got)
	}
	if got := PrepareKernel(base, 2, false); !got.Liberal {
		t.Error("a node that is liberal is made strict")
	}
	if got := PrepareKernel(filepath.Join(base, "none"), 2, false); len(got.Problems) == 0 {
		t.Error("nothing could be set, and no problem")
	}
}

// TestAnnouncedChangesAlone adds one announced address to many, and takes one of them: nothing else is touched.
func TestAnnouncedChangesAlone(t *testing.T) {
	var many []netip.Addr
	for i := range 1000 {
		many = append(many, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	st, s := newState(), sampleStatic
	s.AnswerEcho, s.Announced, s.Echo = true, many, many
	st.setStatic(s)
	st.plan = &changes{}
	s.Announced = append(many[1:len(many):len(many)], netip.MustParseAddr("fd00::1"))
	s.Echo = s.Announced
	st.setStatic(s)
	if have, want := len(st.plan.events), 4; have != want {
		t.Errorf("%d elements change, want %d: one of two sets goes, one of two sets comes", have, want)
	}
}
