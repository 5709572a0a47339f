package nft

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func backends(ss ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range ss {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

var sampleStatic = Static{
	PodCIDRs:          prefixes("10.244.0.0/16", "fd44::/16"),
	ServiceCIDRs:      prefixes("10.96.0.0/16", "fd96::/112"),
	NodePortAddresses: addrs("192.168.0.2", "fd00::2"),
	Announced:         addrs("203.0.113.7", "fd30::7"),
	AnswerEcho:        true,
	Echo:              addrs("203.0.113.7", "fd30::7"),
	DropInvalid:       true,
}

// sample has every kind of frontend in both families.
func sample() Service {
	return Service{
		Created: 1,
		Targets: []Target{
			{Endpoints: backends("10.244.1.1:8080", "10.244.2.1:8080")},
			{Endpoints: backends("10.244.1.1:8080")},
			{Endpoints: backends("[fd44::1]:8080", "[fd44:2::1]:8080")},
			{Endpoints: backends("10.244.1.1:8080", "10.244.2.1:8080", "10.244.3.1:8080"), Affinity: 10800},
			{Endpoints: backends("[fd44::1]:8080", "[fd44:2::1]:8080"), Affinity: 10},
			{Endpoints: backends("10.244.1.1:8080", "10.244.2.1:8080"), Pick: Hash},
			{Endpoints: backends("[fd44::1]:8080", "[fd44:2::1]:8080"), Pick: Hash},
		},
		Frontends: []Frontend{
			{Addr: netip.MustParseAddr("10.96.0.1"), Proto: TCP, Port: 80, Kind: Cluster, Target: 0, Short: None},
			{Addr: netip.MustParseAddr("fd96::1"), Proto: TCP, Port: 80, Kind: Cluster, Target: 2, Short: None},
			{Addr: netip.MustParseAddr("203.0.113.7"), Proto: TCP, Port: 80, Kind: Local, Target: 1, Short: 0, Guarded: true, Sources: prefixes("198.51.100.0/24", "10.0.0.0/8", "10.1.0.0/16")},
			{Addr: netip.MustParseAddr("fd30::7"), Proto: UDP, Port: 53, Kind: External, Target: 2, Short: None, Guarded: true, Sources: prefixes("fd00::/8")},
			{Addr: netip.IPv4Unspecified(), Proto: TCP, Port: 30080, Kind: Local, Target: None, Short: 0},
			{Addr: netip.IPv6Unspecified(), Proto: SCTP, Port: 30080, Kind: External, Target: 4, Short: None},
			{Addr: netip.MustParseAddr("10.96.0.1"), Proto: TCP, Port: 81, Kind: Cluster, Target: 3, Short: None},
			{Addr: netip.MustParseAddr("10.96.0.1"), Proto: UDP, Port: 53, Kind: Reject, Target: None, Short: None},
			{Addr: netip.MustParseAddr("203.0.113.7"), Proto: UDP, Port: 53, Kind: Drop, Target: None, Short: None},
			{Addr: netip.MustParseAddr("203.0.113.7"), Proto: TCP, Port: 82, Kind: Reject, Guarded: true, Target: None, Short: None},
			{Addr: netip.MustParseAddr("10.96.0.1"), Proto: TCP, Port: 83, Kind: Cluster, Target: 5, Short: None},
			{Addr: netip.MustParseAddr("fd96::1"), Proto: TCP, Port: 83, Kind: External, Target: 6, Short: None},
		},
		Addresses: addrs("10.96.0.1", "fd96::1"),
		Hairpin:   addrs("10.244.1.1", "fd44::1"),
	}
}

func full(services map[string]Service) Wish {
	return Wish{Static: sampleStatic, Changed: services, Full: true}
}

func apply(t testing.TB, table *Table, w Wish) Report {
	t.Helper()
	rep, err := table.Apply(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestListing guards the whole host: one rule that nft cannot print breaks the
// listing for everybody.
func TestListing(t *testing.T) {
	s := newSpace(t)
	apply(t, s.open(nil), full(map[string]Service{"a/b": sample()}))
	list := s.run("nft", "list", "ruleset")
	for _, want := range []string{"table ip fairlead", "table ip6 fairlead", "0:1 : goto refuse", "jhash ip6 saddr"} {
		if !strings.Contains(list, want) {
			t.Errorf("listing lacks %q", want)
		}
	}
}

// TestListingLoads guards hosts that save their ruleset and load it at boot.
// nft 1.0.6 prints, but cannot itself compile, what needs more than half of
// its registers: IPv6 affinity and IPv6 hashing.
func TestListingLoads(t *testing.T) {
	s := newSpace(t)
	svc := sample()
	svc.Targets[4].Affinity = 0
	svc.Targets[6].Pick = Random
	apply(t, s.open(nil), full(map[string]Service{"a/b": svc}))
	list := s.run("nft", "list", "ruleset")
	file := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	other := newSpace(t)
	other.run("nft", "-f", file)
	if diff := cmp.Diff(sorted(list), sorted(other.run("nft", "list", "ruleset"))); diff != "" {
		t.Errorf("nft loads something else than it listed (-want +got):\n%s", diff)
	}
}

// sorted is a listing's words in order: nft prints elements in the kernel's
// order, which differs from table to table.
func sorted(list string) []string {
	words := strings.Fields(strings.NewReplacer(",", " ", "{", " ", "}", " ").Replace(list))
	slices.Sort(words)
	return words
}

func TestRestartChangesNothing(t *testing.T) {
	s := newSpace(t)
	services := map[string]Service{"a/b": sample()}
	apply(t, s.open(nil), full(services))
	before := s.run("nft", "list", "ruleset")
	rep := apply(t, s.open(nil), full(services))
	if rep.Transactions != 0 || rep.Added != 0 || rep.Deleted != 0 || !rep.ReadBack {
		t.Errorf("restart changed the table: %+v", rep)
	}
	if diff := cmp.Diff(before, s.run("nft", "list", "ruleset")); diff != "" {
		t.Errorf("ruleset changed (-want +got):\n%s", diff)
	}
}
