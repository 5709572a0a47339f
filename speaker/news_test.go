package main

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNews(t *testing.T) {
	taken := []Verdict{
		{Address: netip.MustParseAddr("192.168.10.8"), Services: []string{"default/web"}, Message: "node1 is its home"},
		{Address: netip.MustParseAddr("192.168.10.7"), Services: []string{"default/dns-tcp", "default/dns-udp"}, Message: "node1 stands in for it"},
		{Address: netip.MustParseAddr("fd00::8"), Services: []string{"default/web"}, Message: "node1 is its home"},
	}
	want := []news{
		{"default/dns-tcp", "Announced", "node1 announces 192.168.10.7: node1 stands in for it", false},
		{"default/dns-udp", "Announced", "node1 announces 192.168.10.7: node1 stands in for it", false},
		{"default/web", "Announced", "node1 announces 192.168.10.8, fd00::8: node1 is its home", false},
	}
	if diff := cmp.Diff(want, newsOfTaken("node1", taken)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	refusals := newsOfRefused("node1", refused{Verdict: taken[1], Reason: "Split", Message: "it is alive"})
	want = []news{{"default/dns-tcp", "Split", "node1: it is alive", true}, {"default/dns-udp", "Split", "node1: it is alive", true}}
	if diff := cmp.Diff(want, refusals); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}
