package nft

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func (s *space) relays() *Relays {
	s.t.Helper()
	var r *Relays
	s.do(func() error {
		var err error
		r, err = OpenRelays()
		return err
	})
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

func pairs(ss ...string) map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for i := 0; i < len(ss); i += 2 {
		out[netip.MustParseAddr(ss[i])] = netip.MustParseAddr(ss[i+1])
	}
	return out
}

// TestRelays wishes relays one after the other, and expects them in the kernel.
func TestRelays(t *testing.T) {
	s := newSpace(t)
	r := s.relays()
	if err := r.Apply(t.Context(), pairs("172.30.0.200", "172.30.0.11")); err != nil {
		t.Errorf("without a table: %v", err)
	}
	if have, err := r.Read(); have != nil || err != nil {
		t.Errorf("without a table: %v, %v", have, err)
	}
	apply(t, s.open(nil), full(nil))
	for _, c := range []struct{ wish, want map[netip.Addr]netip.Addr }{
		{pairs(), pairs()},
		{pairs("172.30.0.200", "172.30.0.11", "fd30::200", "fd30::11"), nil},
		{pairs("172.30.0.200", "172.30.0.11", "fd30::200", "fd30::11"), nil},
		{pairs("172.30.0.200", "172.30.0.12", "172.30.0.201", "172.30.0.11"), nil},
		{pairs("172.30.0.200", "fd30::12", "172.30.0.202", "172.30.0.11"), pairs("172.30.0.202", "172.30.0.11")},
		{nil, pairs()},
	} {
		if c.want == nil {
			c.want = c.wish
		}
		if err := r.Apply(t.Context(), c.wish); err != nil {
			t.Error(err)
		}
		have, err := r.Read()
		if diff := cmp.Diff(c.want, have, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
			t.Errorf("%v: %v (-want +got):\n%s", c.wish, err, diff)
		}
	}
}

// TestRelaysAndTableKeepOutOfEachOthersWay heals the table: relays stay, ring no bell, and
// the listing is one that nft takes back.
func TestRelaysAndTableKeepOutOfEachOthersWay(t *testing.T) {
	s := newSpace(t)
	bell := make(chan struct{}, 1)
	table := s.open(bell)
	apply(t, table, full(crowd(3, 2)))
	r := s.relays()
	want := pairs("172.30.0.200", "172.30.0.11", "fd30::200", "fd30::11")
	if err := r.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if rep := apply(t, table, step(nil)); rep.ReadBack {
		t.Error("a relay made the table be read back")
	}
	if rep := apply(t, table, full(crowd(3, 2))); rep.Transactions != 0 {
		t.Errorf("a relay made the table be changed: %+v", rep)
	}
	listing := s.run("nft", "list", "ruleset")
	s.run("sh", "-c", "nft list ruleset > /dev/shm/$$ && nft flush ruleset && nft -f /dev/shm/$$ && rm /dev/shm/$$")
	if diff := cmp.Diff(sorted(listing), s.ruleset()); diff != "" {
		t.Errorf("loaded again (-want +got):\n%s", diff)
	}
	have, err := r.Read()
	if err != nil || !maps.Equal(have, want) {
		t.Errorf("%v, %v", have, err)
	}
}
