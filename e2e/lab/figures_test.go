package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMeasure(t *testing.T) {
	cut := time.Unix(1000, 0)
	at := func(after, took time.Duration, ok bool) attempt {
		a := attempt{Start: cut.Add(after), Took: took, OK: ok}
		if !ok {
			a.Error = "Get \"http://x\": dial tcp x: i/o timeout"
		}
		return a
	}
	ms := time.Millisecond
	tests := map[string]struct {
		attempts []attempt
		ending   time.Time
		want     outage
	}{
		"nothing fails": {
			attempts: []attempt{at(-10*ms, ms, true), at(0, ms, true), at(10*ms, ms, true)},
			want:     outage{Host: "node1", At: cut, FirstSuccess: 0.001, Attempts: 2},
		},
		"an attempt that failed before the cut does not count": {
			attempts: []attempt{at(-10*ms, ms, false), at(0, ms, true)},
			want:     outage{Host: "node1", At: cut, FirstSuccess: 0.001, Attempts: 1},
		},
		"failures after the first success count": {
			attempts: []attempt{at(0, 300*ms, false), at(500*ms, 2*ms, true), at(900*ms, 300*ms, false), at(950*ms, ms, true)},
			want:     outage{Host: "node1", At: cut, FirstSuccess: 0.502, LastFailure: 0.9, FailedAt: []float64{0, 0.9}, Attempts: 4, Failed: 2, Errors: map[string]int{" i/o timeout": 2}},
		},
		"an open connection that breaks is lost, and no outage": {
			attempts: []attempt{at(0, ms, true), {Start: cut.Add(ms), Kept: true, OK: true}, {Start: cut.Add(2 * ms), Kept: true, Error: "read: connection reset by peer"}},
			want:     outage{Host: "node1", At: cut, FirstSuccess: 0.001, Attempts: 1, Lost: 1, Errors: map[string]int{" connection reset by peer": 1}},
		},
		"an open connection that ends with its pod is not lost": {
			attempts: []attempt{{Start: cut.Add(ms), Kept: true, Error: "read: EOF"}, {Start: cut.Add(3 * ms), Kept: true, Error: "read: EOF"}, at(4*ms, 300*ms, false)},
			ending:   cut.Add(2 * ms),
			want:     outage{Host: "node1", At: cut, FirstSuccess: -1, LastFailure: 0.004, FailedAt: []float64{0.004}, Attempts: 1, Failed: 1, Lost: 1, Errors: map[string]int{" EOF": 1, " i/o timeout": 1}},
		},
		"nothing succeeds": {
			attempts: []attempt{at(0, 300*ms, false)},
			want:     outage{Host: "node1", At: cut, FirstSuccess: -1, Attempts: 1, Failed: 1, FailedAt: []float64{0}, Errors: map[string]int{" i/o timeout": 1}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, measure("node1", cut, test.ending, test.attempts)); diff != "" {
				t.Errorf("measure (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpreadOf(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3}},
		{[]float64{3, 1, 2}, spread{2, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 4}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("spreadOf(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestQuestionsAboutAnAddress(t *testing.T) {
	own := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, text := range []string{"172.30.0.200", "fd30::200"} {
		address := netip.MustParseAddr(text)
		ask, parse := askARP, parseARP
		if address.Is6() {
			ask, parse = askNDP, parseNDP
		}
		frame, _, err := ask(own, address)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range len(frame) + 1 {
			if mac := parse(frame[:cut], address); mac != nil {
				t.Errorf("%s: the question, cut at %d, was taken for an answer of %s", text, cut, mac)
			}
		}
	}
}
