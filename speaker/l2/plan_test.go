package l2

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/speaker/links"
)

func TestPlan(t *testing.T) {
	up := func(name string, index int) links.Link {
		return links.Link{Name: name, Index: index, MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}, Up: true, LowerUp: true, Running: true}
	}
	ls := []links.Link{up("eth0", 2), up("eth1", 3), {Name: "lo", Index: 1, Loopback: true}}
	soon := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		want []Announcement
		plan []string
	}{
		"nothing": {nil, nil},
		"sorted by address and link": {
			[]Announcement{{Address: vip6, Links: []string{"eth0"}}, {Address: vip4, Links: []string{"eth1", "eth0"}}},
			[]string{"192.0.2.200 eth0", "192.0.2.200 eth1", "2001:db8::200 eth0"},
		},
		"twice, on several links, is once": {
			[]Announcement{{Address: vip4, Links: []string{"eth0", "eth0"}}, {Address: vip4, Links: []string{"eth1", "eth0"}}},
			[]string{"192.0.2.200 eth0", "192.0.2.200 eth1"},
		},
		"no handover if one wants none": {
			[]Announcement{{Address: vip4, Links: []string{"eth0"}, Until: soon}, {Address: vip4, Links: []string{"eth0"}}},
			[]string{"192.0.2.200 eth0"},
		},
		"a handover": {
			[]Announcement{{Address: vip4, Links: []string{"eth0"}, Until: soon}},
			[]string{"192.0.2.200 eth0 until 03:04:05"},
		},
		"an IPv4 address in IPv6 clothes": {
			[]Announcement{{Address: netip.MustParseAddr("::ffff:192.0.2.200"), Links: []string{"eth0"}}},
			[]string{"192.0.2.200 eth0"},
		},
		"problems": {
			[]Announcement{
				{Address: vip4, Links: []string{"lo", "eth9"}}, {Address: vip6},
				{Links: []string{"eth0"}}, {Address: netip.MustParseAddr("ff02::1"), Links: []string{"eth0"}},
			},
			[]string{
				"invalid IP eth0: is no address of a host",
				"192.0.2.200 eth9: there is no link eth9",
				"192.0.2.200 lo: lo is a loopback interface",
				"2001:db8::200 : no link is wished for it",
				"ff02::1 eth0: is no address of a host",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range plan(tt.want, ls) {
				text := fmt.Sprint(p.addr, " ", p.name)
				if !p.until.IsZero() {
					text += " until " + p.until.Format(time.TimeOnly)
				}
				if p.problem != "" {
					text += ": " + p.problem
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.plan, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{answers: 2, given: map[mac]int{}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var got []bool
	for range 3 {
		got = append(got, l.allow(macA, now))
	}
	got = append(got, l.allow(macB, now), l.allow(macA, now.Add(time.Second)))
	if diff := cmp.Diff([]bool{true, true, false, true, true}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for i := range 3 * maxSenders {
		m := mac{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		if !l.allow(m, now.Add(time.Second)) {
			t.Fatalf("sender %d was refused its first answer", i)
		}
	}
	if have := len(l.given); have > maxSenders {
		t.Errorf("%d senders are remembered, want at most %d", have, maxSenders)
	}
}

func TestSeries(t *testing.T) {
	timing := DefaultTiming()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := series{start: start, next: -1}
	now := start
	var got []time.Duration
	for range 6 {
		s.advance(timing, now)
		now = s.due
		got = append(got, s.due.Sub(start))
	}
	ms := time.Millisecond
	want := []time.Duration{0, 200 * ms, 1100 * ms, 2200 * ms, 32200 * ms, 62200 * ms}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A flood of claims must not become a flood of bells.
func TestSawIsNewsOnceASecond(t *testing.T) {
	d := &duty{addr: vip4, link: "eth0"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := []bool{
		d.saw(macA, now), d.saw(macA, now.Add(time.Millisecond)), d.saw(macB, now.Add(time.Millisecond)),
		d.saw(macB, now.Add(time.Millisecond)), d.saw(macB, now.Add(time.Second+time.Millisecond)),
	}
	if diff := cmp.Diff([]bool{true, false, true, false, true}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
