package forward

import (
	"context"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestConnectionsToADeadEndpoint: a call that was led to an endpoint which died, and that nobody answered, is led
// to another when its first packet is sent again. What may be answered yet is left alone.
func TestConnectionsToADeadEndpoint(t *testing.T) {
	l := newLab(t)
	dead := "10.244.2.7" // whatever is sent there is lost
	for i, a := range both(dead) {
		l.run(l.node2, "ip", []string{"-4", "-6"}[i], "route", "add", "blackhole", host(a).String())
	}
	table := l.fresh()
	for i, turn := range []func(string) string{func(s string) string { return s }, sixth} {
		services, slices := objects(t, turn(transitionObjects))
		put := func(address, node string) {
			t.Helper()
			slices[0].Endpoints = []discoveryv1.Endpoint{{Addresses: []string{turn(address)}, NodeName: &node}}
			w := Service(services[0], slices, testNode(), nft.Random).Wish
			_, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": w}})
			l.check(err)
		}
		forgotten := func(want int) {
			t.Helper()
			have, err := table.ForgetStrays()
			l.check(err)
			if have != want {
				t.Errorf("%d connections were forgotten, want %d", have, want)
			}
		}
		put(dead, "node2")
		for table.Strays() {
			forgotten(0)
		}
		answers := map[string]chan outcome{}
		for who, to := range map[string]string{"pod": "10.96.0.1", "client": "172.30.0.200"} {
			answers[who] = l.call(who, target(to+":80", turn))
			_, from := l.source(who)
			l.unanswered(both(from)[i], both(to)[i])
		}
		put("10.244.1.1", "node1")
		forgotten(0)
		forgotten(2)
		if table.Strays() {
			t.Error("there is nothing left to forget")
		}
		for who, answer := range answers {
			if got := <-answer; got.failure != "sent again" {
				t.Errorf("the call of %s: %+v, want an answer to a packet that was sent again", who, got)
			}
		}
	}
}
