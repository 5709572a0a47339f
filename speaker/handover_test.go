package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/l2"
)

var (
	noon    = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	address = netip.MustParseAddr("192.168.10.7")
	macs    = map[string]string{"node1": "02:00:00:00:00:01", "node2": "02:00:00:00:00:02"}
)

func twoNodes(second Life) World {
	member := func(name string, life Life) Member {
		return Member{Name: name, Life: life, Meta: Meta{Links: []MetaLink{{Name: "eth0", MAC: macs[name]}}}}
	}
	return World{Node: "node1", Members: []Member{member("node1", Alive), member("node2", second)}}
}

func verdict(owner, present string) Verdict {
	return Verdict{Address: address, Services: []string{"default/web"}, Owner: owner, Present: present, Links: []string{"eth0"}}
}

// Every transition of an address as node1 sees it: what node1 held before, who
// should have it now, and what node1 then does.
func TestStep(t *testing.T) {
	holding := map[netip.Addr]hold{address: {Announcement: l2.Announcement{Address: address, Links: []string{"eth0"}, Round: 3}}}
	handing := map[netip.Addr]hold{address: {Announcement: l2.Announcement{Address: address, Until: noon.Add(time.Second)}}}
	tests := map[string]struct {
		owner, present string
		second         Life // of node2's speaker
		held           map[netip.Addr]hold
		refusedUntil   time.Time
		want           string // hold, hand over, ask 500ms, nothing
	}{
		"mine, and nobody had it":                       {owner: "node1", want: "ask 500ms"},
		"mine, and its node went silent":                {owner: "node1", present: "node2", second: Dead, want: "ask 100ms"},
		"mine, and its node said goodbye":               {owner: "node1", present: "node2", second: Left, want: "hold"},
		"mine, and a live node has it":                  {owner: "node1", present: "node2", want: "hold"},
		"mine, and I say I have it but do not any more": {owner: "node1", present: "node1", want: "ask 100ms"},
		"mine, and I hold it":                           {owner: "node1", held: holding, want: "hold"},
		"mine again while I hand it over":               {owner: "node1", held: handing, want: "hold"},
		"mine, refused a moment ago":                    {owner: "node1", refusedUntil: noon.Add(time.Second), want: "nothing"},
		"mine, refused long ago":                        {owner: "node1", refusedUntil: noon.Add(-time.Second), want: "ask 500ms"},
		"another's, and I never had it":                 {owner: "node2", want: "nothing"},
		"another's, and I hold it":                      {owner: "node2", held: holding, want: "hand over until 12:00:03"},
		"another's, and I am handing it over":           {owner: "node2", held: handing, want: "hand over until 12:00:01"},
		"another's that is silent, and I hold it":       {owner: "node2", second: Dead, held: holding, want: "nothing"},
		"nobody's, and I hold it":                       {owner: "", held: holding, want: "nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			no := map[netip.Addr]refused{}
			if !test.refusedUntil.IsZero() {
				no[address] = refused{Again: test.refusedUntil}
			}
			s := step("node1", []Verdict{verdict(test.owner, test.present)}, twoNodes(test.second), test.held, no, 3, noon)
			if got := describe(s); got != test.want {
				t.Errorf("step: %s, want %s", got, test.want)
			}
		})
	}
}

func describe(s steps) string {
	var words []string
	for _, h := range s.Hold {
		if h.Announcement.Until.IsZero() {
			words = append(words, "hold")
		} else {
			words = append(words, "hand over until "+h.Announcement.Until.Format(time.TimeOnly))
		}
	}
	for range s.Ask {
		words = append(words, "ask "+s.Wait.String())
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// An address that is gone from the world is not held any more.
func TestStepForgetsAddressesWithoutAVerdict(t *testing.T) {
	held := map[netip.Addr]hold{address: {Announcement: l2.Announcement{Address: address}}}
	if got := describe(step("node1", nil, twoNodes(Alive), held, nil, 3, noon)); got != "nothing" {
		t.Errorf("step: %s, want nothing", got)
	}
}

func TestAnswer(t *testing.T) {
	saw := func(mac string) []l2.Sighting {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		return []l2.Sighting{{Address: address, Link: "eth0", MAC: hw}}
	}
	tests := map[string]struct {
		seen   []l2.Sighting
		second Life
		policy v1beta1.ConflictPolicy
		want   string // reason, "" to take it
		again  time.Duration
	}{
		"nobody answers":                                  {},
		"a live speaker answers":                          {seen: saw(macs["node2"])},
		"a speaker that said goodbye still answers":       {seen: saw(macs["node2"]), second: Left},
		"the silent owner still answers":                  {seen: saw(macs["node2"]), second: Dead, want: v1beta1.ReasonSplit, again: time.Second},
		"a stranger answers":                              {seen: saw("02:00:00:00:00:99"), want: v1beta1.ReasonAddressConflict, again: askAgain},
		"a stranger answers, and we are told to announce": {seen: saw("02:00:00:00:00:99"), policy: v1beta1.ConflictAnnounce},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := verdict("node1", "node2")
			v.Conflict = test.policy
			no := answer(v, test.seen, twoNodes(test.second), noon)
			var got string
			var again time.Duration
			if no != nil {
				got, again = no.Reason, no.Again.Sub(noon)
			}
			if diff := cmp.Diff([]any{test.want, test.again}, []any{got, again}); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAgain(t *testing.T) {
	claiming := func(w World) World {
		w.Members[1].Meta.Owns = []netip.Addr{address}
		return w
	}
	mine := []Verdict{verdict("node1", "")}
	tests := map[string]struct {
		before, now World
		verdicts    []Verdict
		want        bool
	}{
		"nothing happened":                         {twoNodes(Alive), twoNodes(Alive), mine, false},
		"a silent speaker is heard again":          {twoNodes(Dead), twoNodes(Alive), mine, true},
		"a speaker that left is back":              {twoNodes(Left), twoNodes(Alive), mine, false},
		"a speaker falls silent":                   {twoNodes(Alive), twoNodes(Dead), mine, false},
		"a live speaker comes to claim my address": {twoNodes(Alive), claiming(twoNodes(Alive)), mine, true},
		"it gives it up":                           {claiming(twoNodes(Alive)), twoNodes(Alive), mine, true},
		"it claims it still":                       {claiming(twoNodes(Alive)), claiming(twoNodes(Alive)), mine, false},
		"it claims its own":                        {twoNodes(Alive), claiming(twoNodes(Alive)), []Verdict{verdict("node2", "")}, false},
		"a silent speaker claims my address":       {twoNodes(Alive), claiming(twoNodes(Dead)), mine, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := again(test.before, test.now, test.verdicts); got != test.want {
				t.Errorf("again: %t, want %t", got, test.want)
			}
		})
	}
}

// A host that uses an address of ours is told of for a while, unless it is one of us.
func TestContested(t *testing.T) {
	seen := func(mac string, ago time.Duration) l2.State {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		return l2.State{Address: address, Link: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Foreign: l2.Sighting{MAC: hw, At: noon.Add(-ago)}}
	}
	const stranger = "02:00:00:00:00:99"
	silent := seen(stranger, time.Second)
	silent.MAC = nil
	tests := map[string]struct {
		state l2.State
		owner string
		want  int
	}{
		"nobody was seen":            {l2.State{Address: address, Link: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, "node1", 0},
		"a stranger":                 {seen(stranger, time.Second), "node1", 1},
		"a stranger, long ago":       {seen(stranger, 2*time.Minute), "node1", 0},
		"another speaker":            {seen(macs["node2"], time.Second), "node1", 0},
		"an address of another node": {seen(stranger, time.Second), "node2", 0},
		"a link that does not work":  {silent, "node1", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found := contested([]l2.State{test.state}, []Verdict{verdict(test.owner, "")}, twoNodes(Alive), noon)
			if len(found) != test.want {
				t.Errorf("contested: %+v, want %d", found, test.want)
			}
			for _, no := range found {
				if no.Reason != v1beta1.ReasonAddressConflict || !strings.Contains(no.Message, stranger) {
					t.Errorf("%s: %s", no.Reason, no.Message)
				}
			}
		})
	}
}
