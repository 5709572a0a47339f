package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/speaker/l2"
)

// near is a world of nodes on one LAN, node1 first, each with its address in it.
func near(lives ...Life) World {
	w := World{Node: "node1", Now: noon}
	for i, life := range lives {
		n := byte(i + 1)
		w.Members = append(w.Members, Member{Name: "node" + string('0'+n), Life: life, Meta: Meta{Links: []MetaLink{{
			Name:      "eth0",
			Subnets:   []netip.Prefix{netip.MustParsePrefix("192.168.10.0/24"), netip.MustParsePrefix("fd10::/64")},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, 10, 100 + n}), netip.MustParseAddr("fd10::10" + string('0'+n))},
		}}}})
	}
	return w
}

// What node1 passes on when an address comes, stays and goes.
func TestRelays(t *testing.T) {
	sixth := netip.MustParseAddr("fd10::7")
	node2 := map[netip.Addr]relay{address: {netip.MustParseAddr("192.168.10.102"), noon.Add(-time.Minute)}}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 2}
	justNow := map[netip.Addr]relay{address: {netip.MustParseAddr("192.168.10.102"), noon.Add(-time.Second)}}
	old := map[netip.Addr]relay{address: {netip.MustParseAddr("192.168.10.102"), noon.Add(-2 * time.Hour)}}
	stranger := map[netip.Addr]relay{address: {netip.MustParseAddr("192.168.10.177"), noon.Add(-time.Minute)}}
	tests := map[string]struct {
		address        netip.Addr
		owner, present string
		second         Life
		holds          bool // from now on
		have           map[netip.Addr]relay
		announced      bool // until now
		silentFor      time.Duration
		far            bool          // the former owner is in another subnet
		heardFor       time.Duration // since the wire said that node2 uses it; 0 for never
		claims         string        // a node that says that it has the address, beside the one that has it
		want           string
	}{
		"comes from a live node":               {owner: "node1", present: "node2", holds: true, want: "192.168.10.102 now"},
		"comes from a live node, IPv6":         {address: sixth, owner: "node1", present: "node2", holds: true, want: "fd10::102 now"},
		"comes from one that said goodbye":     {owner: "node1", present: "node2", second: Left, holds: true, want: "192.168.10.102 now"},
		"comes from a silent one":              {owner: "node1", present: "node2", second: Dead, holds: true, want: "192.168.10.102 now"},
		"comes from one silent for a while":    {owner: "node1", present: "node2", second: Dead, silentFor: 4 * time.Second, holds: true, want: "nothing"},
		"comes from nobody":                    {owner: "node1", holds: true, want: "nothing"},
		"comes from a node beyond a router":    {owner: "node1", present: "node2", holds: true, far: true, want: "nothing"},
		"is mine but refused":                  {owner: "node1", present: "node2", want: "nothing"},
		"is here already":                      {owner: "node1", present: "node1", holds: true, announced: true, have: node2, want: "192.168.10.102 1m0s ago"},
		"comes back while it is handed over":   {owner: "node1", present: "node1", holds: true, have: node2, want: "192.168.10.102 1m0s ago"},
		"came from a node that is silent now":  {owner: "node1", second: Dead, holds: true, announced: true, have: node2, want: "192.168.10.102 1m0s ago"},
		"came from a node that stays silent":   {owner: "node1", second: Dead, silentFor: 4 * time.Second, holds: true, announced: true, have: node2, want: "nothing"},
		"came from a node that left since":     {owner: "node1", second: Left, holds: true, announced: true, have: node2, want: "192.168.10.102 1m0s ago"},
		"came long ago":                        {owner: "node1", holds: true, announced: true, have: old, want: "nothing"},
		"came from a node nobody knows":        {owner: "node1", holds: true, announced: true, have: stranger, want: "192.168.10.177 1m0s ago"},
		"goes back where it came from":         {owner: "node2", holds: true, announced: true, have: node2, want: "192.168.10.102 now"},
		"is back where it came from":           {owner: "node2", present: "node2", have: node2, want: "nothing"},
		"is back since a moment ago":           {owner: "node2", present: "node2", have: justNow, want: "192.168.10.102 1s ago"},
		"goes to a node":                       {owner: "node2", present: "node1", holds: true, announced: true, want: "192.168.10.102 now"},
		"still goes to a node":                 {owner: "node2", present: "node1", holds: true, have: justNow, want: "192.168.10.102 now"},
		"goes on to a third":                   {owner: "node3", present: "node1", holds: true, announced: true, have: node2, want: "192.168.10.102 1m0s ago"},
		"is mine and claimed":                  {owner: "node1", present: "node1", holds: true, announced: true, claims: "node2", want: "192.168.10.102 now"},
		"is mine and still claimed":            {owner: "node1", present: "node1", holds: true, announced: true, claims: "node2", have: node2, want: "192.168.10.102 1m0s ago"},
		"is mine and node2 was heard using it": {owner: "node1", present: "node1", holds: true, announced: true, heardFor: time.Second, want: "192.168.10.102 now"},
		"is mine, but node2 used it long ago":  {owner: "node1", present: "node1", holds: true, announced: true, heardFor: time.Minute, want: "nothing"},
		"is mine and claimed by a dead node":   {owner: "node1", present: "node1", holds: true, announced: true, claims: "node2", second: Dead, want: "nothing"},
		"has gone on to a third":               {owner: "node3", present: "node3", have: node2, want: "192.168.10.102 1m0s ago"},
		"comes again, now from a third":        {owner: "node1", present: "node3", holds: true, have: node2, want: "192.168.10.103 now"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := near(Alive, test.second, Alive)
			w.Members[1].Since = noon.Add(-test.silentFor)
			if test.far {
				w.Members[1].Meta.Links[0].Addresses = []netip.Addr{netip.MustParseAddr("192.168.20.102")}
			}
			for i, m := range w.Members {
				if m.Name == test.claims {
					w.Members[i].Meta.Owns = []netip.Addr{address}
				}
			}
			w.Members[1].Meta.Links[0].MAC = mac.String()
			states := []l2.State{{Address: address}}
			if test.heardFor > 0 {
				states[0].Foreign = l2.Sighting{MAC: mac, At: noon.Add(-test.heardFor)}
			}
			v := verdict(test.owner, test.present)
			if test.address.IsValid() {
				v.Address = test.address
			}
			var todo []hold
			if test.holds {
				todo = []hold{{l2.Announcement{Address: v.Address, Links: v.Links}, v}}
			}
			have := "nothing"
			if r, ok := relays(test.have, todo, map[netip.Addr]bool{v.Address: test.announced}, w.heardUsing(states), []Verdict{v}, w)[v.Address]; ok {
				have = r.To.String() + " now"
				if ago := noon.Sub(r.Since); ago > 0 {
					have = r.To.String() + " " + ago.String() + " ago"
				}
			}
			if have != test.want {
				t.Errorf("passes on to %s, want %s", have, test.want)
			}
		})
	}
	gone := relays(node2, nil, map[netip.Addr]bool{address: true}, nil, nil, near(Alive, Alive))
	if diff := cmp.Diff(map[netip.Addr]relay{}, gone, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("an address no Service has any more (-want +got):\n%s", diff)
	}
}
