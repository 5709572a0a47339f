package members

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	start0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	addr1  = netip.MustParseAddrPort("192.0.2.1:7947")
	addr2  = netip.MustParseAddrPort("192.0.2.2:7947")
)

func TestBook(t *testing.T) {
	rec := func(epoch, seq uint64, meta string) record {
		return record{name: "b", epoch: epoch, seq: seq, meta: []byte(meta)}
	}
	goodbye := record{name: "b", epoch: 5, seq: 9, leaving: true}
	tests := map[string]struct {
		events func(*book)
		want   string
	}{
		"a record before its member is not shown": {func(b *book) {
			b.learn([]record{rec(5, 1, "x")}, start0)
		}, ""},
		"but kept for it": {func(b *book) {
			b.learn([]record{rec(5, 1, "x")}, start0)
			b.joined("b", addr2, start0)
		}, "b alive x"},
		"an older record changes nothing": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 2, "new"), rec(5, 1, "old"), rec(4, 9, "older")}, start0)
		}, "b alive new"},
		"a later life replaces all": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 9, "x"), rec(6, 1, "y")}, start0)
		}, "b alive y"},
		"a dead member keeps its meta": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 1, "x")}, start0)
			b.gone("b", start0)
		}, "b dead x"},
		"goodbye is believed at once": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 1, "x"), goodbye}, start0)
		}, "b left x"},
		"and stays after its death": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 1, "x"), goodbye}, start0)
			b.gone("b", start0)
		}, "b left x"},
		"a new life after goodbye": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{rec(5, 1, "x"), goodbye, rec(6, 0, "y")}, start0)
		}, "b alive y"},
		"a new record of one that is dead does not wake it": {func(b *book) {
			b.joined("b", addr2, start0)
			b.gone("b", start0)
			b.learn([]record{rec(6, 0, "y")}, start0)
		}, "b dead y"},
		"it is back": {func(b *book) {
			b.joined("b", addr2, start0)
			b.learn([]record{goodbye}, start0)
			b.gone("b", start0)
			b.joined("b", addr2, start0)
		}, "b alive"},
		"a wanted dead one is kept": {func(b *book) {
			b.joined("b", addr2, start0)
			b.gone("b", start0)
			b.forget(map[netip.AddrPort]bool{addr2: true})
		}, "b dead"},
		"an unwanted dead one is forgotten": {func(b *book) {
			b.joined("b", addr2, start0)
			b.gone("b", start0)
			b.forget(nil)
		}, ""},
		"an unwanted living one is not": {func(b *book) {
			b.joined("b", addr2, start0)
			b.forget(nil)
		}, "b alive"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBook(record{name: "a", epoch: 1}, addr1, start0)
			tt.events(b)
			want := []string{"a alive"}
			if tt.want != "" {
				want = append(want, tt.want)
			}
			if diff := cmp.Diff(want, describe(b.snapshot())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A node whose clock went back hears of its own former life, and must outlive it.
func TestAFormerLifeWithALaterClock(t *testing.T) {
	b := newBook(record{name: "a", epoch: 100, meta: []byte("now")}, addr1, start0)
	former := record{name: "a", epoch: 500, seq: 7, meta: []byte("then")}
	if _, refute := b.learn([]record{former}, start0); !refute {
		t.Error("want it to speak up")
	}
	if own := b.own(); !own.newer(former) || string(own.meta) != "now" {
		t.Errorf("want our own word newer than the former, have %+v", own)
	}
	if _, refute := b.learn([]record{former}, start0); refute {
		t.Error("want it to speak up once")
	}
}

func TestRecordsAreBounded(t *testing.T) {
	b := newBook(record{name: "a", epoch: 1}, addr1, start0)
	for i := range 2 * maxRecords {
		b.learn([]record{{name: string(rune('b'+i%20)) + time.Duration(i).String(), epoch: 1}}, start0)
	}
	if have := len(b.records); have > maxRecords {
		t.Errorf("%d records are kept, want at most %d", have, maxRecords)
	}
}

var exported = cmp.AllowUnexported(record{})

func TestRecordsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record {
			return record{
				name:    rapid.StringMatching(`[a-z0-9.-]{1,253}`).Draw(t, "name"),
				epoch:   rapid.Uint64().Draw(t, "epoch"),
				seq:     rapid.Uint64().Draw(t, "seq"),
				leaving: rapid.Bool().Draw(t, "leaving"),
				meta:    rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "meta"),
			}
		}), 1, 5).Draw(t, "records")
		got, err := decode(encode(want...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, exported); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(encode())
	f.Add(encode(record{name: "a"}))
	f.Add(encode(record{name: "node1", epoch: 1, seq: 2, meta: []byte("meta")}, record{name: "b", leaving: true}))
	f.Add(encode(record{name: "a", meta: make([]byte, MaxMeta)})[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decode(b)
		if err != nil {
			return
		}
		for _, r := range records {
			if len(r.name) == 0 || len(r.name) > maxName || len(r.meta) > MaxMeta {
				t.Errorf("out of bounds: %+v", r)
			}
		}
		if again := encode(records...); !bytes.Equal(b, again) {
			t.Errorf("read %x, written %x", b, again)
		}
	})
}
