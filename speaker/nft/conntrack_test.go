package nft

import (
	"net/netip"
	"testing"
)

func TestStale(t *testing.T) {
	port := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	known := suspects{
		{netip.MustParseAddr("10.96.0.1"), UDP, 53}:    {to: backends("10.244.1.1:53")},
		{netip.MustParseAddr("10.96.0.2"), UDP, 53}:    {},
		{netip.MustParseAddr("10.96.0.3"), UDP, 53}:    {gone: true},
		{netip.IPv4Unspecified(), UDP, 30053}:          {to: backends("10.244.1.1:53")},
		{netip.MustParseAddr("10.96.0.1"), SCTP, 5000}: {to: backends("10.244.1.1:5000")},
	}
	nodes := map[netip.Addr]bool{netip.MustParseAddr("172.30.0.11"): true}
	for _, c := range []struct {
		why      string
		proto    Proto
		to, from string
		want     bool
	}{
		{"leads to an endpoint", UDP, "10.96.0.1:53", "10.244.1.1:53", false},
		{"leads to an endpoint that is gone", UDP, "10.96.0.1:53", "10.244.1.2:53", true},
		{"leads to another port", UDP, "10.96.0.1:53", "10.244.1.1:54", true},
		{"was never translated", UDP, "10.96.0.1:53", "10.96.0.1:53", true},
		{"leads somewhere although nobody serves", UDP, "10.96.0.2:53", "10.244.1.1:53", true},
		{"leads somewhere although the Service is gone", UDP, "10.96.0.3:53", "10.244.1.1:53", true},
		{"goes to an address that is no Service's any more", UDP, "10.96.0.3:53", "10.96.0.3:53", false},
		{"another port", UDP, "10.96.0.1:54", "10.244.1.2:53", false},
		{"another protocol", SCTP, "10.96.0.1:53", "10.244.1.2:53", false},
		{"SCTP", SCTP, "10.96.0.1:5000", "10.244.1.2:5000", true},
		{"a node port", UDP, "172.30.0.11:30053", "10.244.1.2:53", true},
		{"a node port that leads right", UDP, "172.30.0.11:30053", "10.244.1.1:53", false},
		{"the same port of a stranger", UDP, "8.8.8.8:30053", "8.8.8.8:30053", false},
	} {
		if got := known.stale(flow{proto: c.proto, to: port(c.to), from: port(c.from)}, nodes); got != c.want {
			t.Errorf("%s: %t", c.why, got)
		}
	}
}
