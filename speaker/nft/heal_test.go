package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// rung waits for the bell as long as a heal may take in all.
func rung(bell <-chan struct{}) bool {
	select {
	case <-bell:
		return true
	case <-time.After(time.Second):
		return false
	}
}

func (s *space) ruleset() []string { return sorted(s.run("nft", "list", "ruleset")) }

func step(services map[string]Service) Wish {
	return Wish{Static: sampleStatic, Changed: services}
}

// TestHeal changes the table behind our back in every way a careless
// administrator might, and expects the bell and the same table again.
func TestHeal(t *testing.T) {
	s := newSpace(t)
	bell := make(chan struct{}, 1)
	table := s.open(bell)
	services := map[string]Service{"a/b": sample()}
	apply(t, table, full(services))
	want := s.ruleset()
	for _, harm := range []string{
		"flush ruleset",
		"delete table ip fairlead",
		"delete element ip fairlead frontends { 10.96.0.1 . tcp . 80 }",
		"add element ip fairlead service-ips { 8.8.8.8 }",
		"add element ip fairlead pods { 192.0.2.0/24 }",
		"flush chain ip fairlead prerouting",
		"insert rule ip fairlead prerouting drop",
		"add rule ip6 fairlead plain-2 accept",
		"add chain ip fairlead foreign",
		"add chain ip fairlead evil { type nat hook prerouting priority -150; }",
		"add set ip fairlead foreign { type ipv4_addr; }",
		"add table ip fairlead { flags dormant; }",
		"flush map ip6 fairlead endpoints",
		"add chain ip fairlead output { type nat hook output priority -100; policy drop; }",
		"add element ip fairlead frontends { * : 0:1 }",
		"add element ip6 fairlead classes { * : drop }",
		"add element ip fairlead service-ips { * }",
		"add element ip fairlead allowed-sources { 203.0.113.7 . tcp . 80 . 0.0.0.0-9.0.0.0 }",
	} {
		t.Run(harm, func(t *testing.T) {
			s.run("nft", harm)
			if !rung(bell) {
				t.Error("the bell was not rung")
			}
			rep := apply(t, table, step(nil))
			if !rep.ReadBack || rep.Transactions != 1 {
				t.Errorf("healed by %+v", rep)
			}
			if diff := cmp.Diff(want, s.ruleset()); diff != "" {
				t.Errorf("not healed (-want +got):\n%s", diff)
			}
			for len(bell) > 0 {
				<-bell
			}
			if rep := apply(t, table, step(nil)); rep.ReadBack {
				t.Error("read back again although nothing was changed")
			}
		})
	}
}

// TestOwnChangesAreQuiet guards against an endless loop of healing ourselves,
// and against being woken by what others do to their own tables.
func TestOwnChangesAreQuiet(t *testing.T) {
	s := newSpace(t)
	bell := make(chan struct{}, 1)
	table := s.open(bell)
	apply(t, table, full(crowd(500, 10)))
	for i := range 20 {
		apply(t, table, step(map[string]Service{"ns/svc-7": member(7, i+1)}))
	}
	s.run("nft", "add table ip other")
	s.run("nft", "add chain ip other c { type filter hook input priority 0; }")
	// The monitor sees a change of ours in order, behind all the others.
	s.run("nft", "add element ip fairlead service-ips { 8.8.8.8 }")
	if !rung(bell) {
		t.Fatal("the bell was not rung")
	}
	table.doubtful.Store(false)
	if len(bell) != 0 {
		t.Error("the bell was rung more than once")
	}
}

// TestIncrementsEqualFull applies changes one by one and expects the same
// table as if all had been wished at once.
func TestIncrementsEqualFull(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	apply(t, table, full(nil))
	empty := s.ruleset()
	final := map[string]Service{}
	for _, change := range changesOverTime() {
		apply(t, table, step(change))
		maps.Copy(final, change)
	}
	rep := apply(t, table, full(final))
	if snap, err := table.wire.read(); err != nil || len(snap.elements) != rep.Elements {
		t.Errorf("the report counts %d elements, the kernel has %d, %v", rep.Elements, len(snap.elements), err)
	}
	for _, line := range strings.Split(table.state.plan.String(), "\n") {
		// What is no longer used of the classes is cleared by full wishes only.
		unused := strings.HasPrefix(line, "delete chain ") || strings.Contains(line, " : goto ")
		if line != "" && !(unused && strings.HasPrefix(line, "delete")) {
			t.Errorf("a full wish changes: %s", line)
		}
	}
	gone := map[string]Service{}
	for name := range final {
		gone[name] = Service{}
	}
	rep = apply(t, table, step(gone))
	if snap, err := table.wire.read(); err != nil || len(snap.elements) != rep.Elements {
		t.Errorf("after a change the report counts %d elements, the kernel has %d, %v", rep.Elements, len(snap.elements), err)
	}
	apply(t, table, full(nil))
	if diff := cmp.Diff(empty, s.ruleset()); diff != "" {
		t.Errorf("something is left (-want +got):\n%s", diff)
	}
}

// changesOverTime is a history of several Services.
func changesOverTime() []map[string]Service {
	grown := sample()
	grown.Targets[0].Endpoints = append(backends("10.244.0.9:8080"), grown.Targets[0].Endpoints...)
	shrunk := sample()
	shrunk.Targets[3].Endpoints = shrunk.Targets[3].Endpoints[1:]
	shrunk.Frontends = shrunk.Frontends[3:]
	other := member(5, 40)
	rival := Service{Created: 0, Targets: []Target{{Endpoints: backends("10.244.7.7:70")}},
		Frontends: []Frontend{{Addr: netip.MustParseAddr("203.0.113.7"), Proto: TCP, Port: 80, Kind: External, Target: 0, Short: None}}}
	return []map[string]Service{
		{"a/b": sample(), "ns/x": other},
		{"a/b": grown},
		{"z/rival": rival},
		{"a/b": shrunk},
		{"a/b": sample()},
		{"ns/x": {}},
		{"ns/x": member(5, 3), "z/rival": rival},
		{"a/b": grown, "z/rival": {}},
		{"z/rival": rival},
	}
}

// TestContest has two Services claim one frontend: rank, then age, then name
// decide, and the loser's rules never hold for the winner.
func TestContest(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	claim := func(created int64, rank Rank, to string, guarded bool) Service {
		return Service{Created: created, Targets: []Target{{Endpoints: backends(to)}}, Frontends: []Frontend{{
			Addr: netip.MustParseAddr("203.0.113.7"), Proto: TCP, Port: 80, Kind: External, Target: 0, Short: None,
			Rank: rank, Guarded: guarded, Sources: prefixes("198.51.100.0/24"),
		}}}
	}
	rep := apply(t, table, full(map[string]Service{
		"a/young": claim(9, RankBalancer, "10.244.1.1:80", true),
		"b/old":   claim(5, RankBalancer, "10.244.1.2:80", false),
		"c/user":  claim(1, RankExternal, "10.244.1.3:80", true),
	}))
	want := []Contest{{Frontend: "203.0.113.7 tcp 80", Winner: "b/old", Losers: []string{"a/young", "c/user"}}}
	if diff := cmp.Diff(want, rep.Contests); diff != "" {
		t.Errorf("contests (-want +got):\n%s", diff)
	}
	if list := s.run("nft", "list", "ruleset"); strings.Contains(list, "198.51.100.0/24") {
		t.Error("a loser guards the winner's frontend")
	}
	rep = apply(t, table, step(map[string]Service{"b/old": {}}))
	if rep.Contests[0].Winner != "a/young" {
		t.Errorf("winner is %s", rep.Contests[0].Winner)
	}
	if list := s.run("nft", "list", "ruleset"); !strings.Contains(list, "198.51.100.0/24") {
		t.Error("the new winner's guard is missing")
	}
}

// TestSourcesChange changes the ranges of a guarded frontend from each of these
// to each other. The kernel takes no range that overlaps one it has.
func TestSourcesChange(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	guarded := func(sources ...string) Service {
		return Service{Targets: []Target{{Endpoints: backends("10.244.1.1:80")}, {Endpoints: backends("[fd44::1]:80")}}, Frontends: []Frontend{
			{Addr: netip.MustParseAddr("203.0.113.7"), Proto: TCP, Port: 80, Kind: External, Target: 0, Short: None, Guarded: true, Sources: prefixes(sources...)},
			{Addr: netip.MustParseAddr("fd30::7"), Proto: TCP, Port: 80, Kind: External, Target: 1, Short: None, Guarded: true, Sources: prefixes(sources...)},
		}}
	}
	lists := [][]string{
		{"0.0.0.0/0", "::/0"},
		{"255.0.0.0/32", "ff00::/128"},
		{"198.51.0.0/16", "2001:db8::/32"},
		{"198.51.100.0/24", "2001:db8:1::/48"},
		{"198.51.100.128/25", "203.0.113.0/24", "2001:db8:1:8000::/49", "fd00::/8"},
		{"198.51.100.0/25", "203.0.0.0/16", "2001:db8:1::/49", "fd00::/16"},
		{},
	}
	apply(t, table, full(nil))
	for _, from := range lists {
		for _, to := range lists {
			apply(t, table, step(map[string]Service{"a/b": guarded(from...)}))
			rep := apply(t, table, step(map[string]Service{"a/b": guarded(to...)}))
			if rep.ReadBack || rep.Errors > 0 {
				t.Errorf("from %v to %v: %d errors, read back %t", from, to, rep.Errors, rep.ReadBack)
			}
		}
	}
	if rep := apply(t, table, full(map[string]Service{"a/b": guarded()})); rep.Added+rep.Deleted > 0 {
		t.Errorf("the kernel held something else: %+v", rep)
	}
}

// TestNodePortIsNotHidden: a Service that names a node's address does not get
// what is sent to the node port of another, in whatever order they come and go.
func TestNodePortIsNotHidden(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	lead := func(addr string, rank Rank) Service {
		return Service{Targets: []Target{{Endpoints: backends("10.244.1.1:80")}}, Frontends: []Frontend{{
			Addr: netip.MustParseAddr(addr), Proto: TCP, Port: 30080, Kind: External, Target: 0, Short: None, Rank: rank,
		}}}
	}
	thief, victim := lead("192.168.0.2", RankExternal), lead("0.0.0.0", RankCluster)
	static, elsewhere := sampleStatic, sampleStatic
	static.NodePortAddresses, elsewhere.NodePortAddresses = addrs("192.168.0.2"), addrs("192.168.0.3")
	apply(t, table, Wish{Static: static, Full: true})
	const element = "192.168.0.2 . tcp . 30080 :"
	for i, step := range []struct {
		wish   Wish
		hidden bool
	}{
		{Wish{Static: static, Changed: map[string]Service{"a/thief": thief}}, false},
		{Wish{Static: static, Changed: map[string]Service{"b/victim": victim}}, true},
		{Wish{Static: static, Changed: map[string]Service{"a/thief": thief}}, true},
		{Wish{Static: elsewhere}, false},
		{Wish{Static: static}, true},
		{Wish{Static: static, Changed: map[string]Service{"b/victim": {}}}, false},
		{Wish{Static: static, Changed: map[string]Service{"b/victim": victim}}, true},
		{Wish{Static: static, Changed: map[string]Service{"a/thief": {}}}, false},
		{Wish{Static: static, Changed: map[string]Service{"a/thief": thief}}, true},
		{Wish{Static: static, Changed: map[string]Service{"a/thief": thief, "b/victim": victim}, Full: true}, true},
	} {
		rep := apply(t, table, step.wish)
		list := s.run("nft", "list", "map", "ip", "fairlead", "frontends")
		shown := strings.Contains(list, element)
		if _, there := table.state.services["a/thief"]; shown != (there && !step.hidden) {
			t.Errorf("step %d: shown %t:\n%s", i, shown, list)
		}
		want := []Contest{{Frontend: "192.168.0.2 tcp 30080", Winner: "b/victim", Losers: []string{"a/thief"}}}
		if !step.hidden {
			want = nil
		}
		if diff := cmp.Diff(want, rep.Contests); diff != "" {
			t.Errorf("step %d: contests (-want +got):\n%s", i, diff)
		}
	}
}

// TestStaticChanges changes what is known about the node, piece by piece.
func TestStaticChanges(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	services := map[string]Service{"a/b": sample()}
	apply(t, table, full(services))
	for name, change := range map[string]func(*Static){
		"pods":            func(x *Static) { x.PodCIDRs = prefixes("10.0.0.0/8") },
		"no pods":         func(x *Static) { x.PodCIDRs = nil },
		"services":        func(x *Static) { x.ServiceCIDRs = append(x.ServiceCIDRs, prefixes("10.97.0.0/16")...) },
		"nodes":           func(x *Static) { x.NodePortAddresses = addrs("192.168.0.3", "192.168.0.3") },
		"vips":            func(x *Static) { x.Announced = addrs("203.0.113.8") },
		"no ping":         func(x *Static) { x.Echo = nil },
		"no echo":         func(x *Static) { x.AnswerEcho = false },
		"liberal":         func(x *Static) { x.DropInvalid = false },
		"spread":          func(x *Static) { x.Ring = 3 },
		"spread, liberal": func(x *Static) { x.DropInvalid, x.Ring = false, 5 },
		"mark":            func(x *Static) { x.MasqueradeMark = 0x1000 },
		"all":             func(x *Static) { x.MasqueradeAll = true },
	} {
		t.Run(name, func(t *testing.T) {
			static := sampleStatic
			change(&static)
			apply(t, table, Wish{Static: static})
			other := newSpace(t)
			apply(t, other.open(nil), Wish{Static: static, Changed: services, Full: true})
			if diff := cmp.Diff(other.ruleset(), s.ruleset()); diff != "" {
				t.Errorf("changed is not the same as new (-new +changed):\n%s", diff)
			}
			apply(t, table, Wish{Static: sampleStatic})
		})
	}
}

func TestFirstWishMustBeFull(t *testing.T) {
	table := newSpace(t).open(nil)
	if _, err := table.Apply(context.Background(), step(nil)); !errors.Is(err, errNotFull) {
		t.Errorf("got %v", err)
	}
}

func TestCleanup(t *testing.T) {
	s := newSpace(t)
	s.run("nft", "add table ip other")
	want := s.ruleset()
	apply(t, s.open(nil), full(map[string]Service{"a/b": sample()}))
	for range 2 {
		s.do(func() error { return Cleanup(context.Background()) })
		if diff := cmp.Diff(want, s.ruleset()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestFailedTransaction makes the kernel refuse a change set and expects that
// it is repaired at once.
func TestFailedTransaction(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	apply(t, table, full(map[string]Service{"a/b": sample()}))
	s.run("nft", "delete element ip fairlead frontends { 10.96.0.1 . tcp . 80 }")
	table.doubtful.Store(false) // as if the notice were still on its way
	rep := apply(t, table, step(map[string]Service{"a/b": {}}))
	if !rep.ReadBack {
		t.Errorf("no repair: %+v", rep)
	}
	if diff := cmp.Diff([]netip.Addr{}, table.state.addressesInUse()); diff != "" {
		t.Error(diff)
	}
}

// TestMadeAnew: what cannot be reached by changes is reached by a new table, in a single transaction.
func TestMadeAnew(t *testing.T) {
	s := newSpace(t)
	table := s.open(nil)
	services := map[string]Service{"a/b": sample()}
	apply(t, table, full(services))
	want := s.ruleset()
	rep, err := table.applyAll(step(services), true)
	if err != nil || rep.Transactions != 1 || rep.Deleted != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	if diff := cmp.Diff(want, s.ruleset()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for err, want := range map[error]bool{
		nil: false, unix.ENOMEM: false, unix.ENOBUFS: false, unix.EPERM: false,
		unix.EEXIST: true, fmt.Errorf("add element: %w", unix.ENOENT): true, unix.EBUSY: true,
	} {
		if got := refused(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

func (st *state) addressesInUse() []netip.Addr {
	out := []netip.Addr{}
	for k := range st.owners {
		out = append(out, k.addr)
	}
	return out
}
