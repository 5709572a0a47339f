package forward

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestConnectionsBegunBefore: a client that called a Service before there was
// one has left a connection in conntrack that leads nowhere. It is answered when
// it sends its first packet again, and so is another that has its port.
func TestConnectionsBegunBefore(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	// A rule about ports needs conntrack in this namespace, as any Service does.
	bystander := simple(nft.UDP, 53, nil, "10.244.1.2:53")
	for i, a := range both("10.96.0.9") {
		bystander.Frontends[i].Addr, bystander.Addresses[i] = a, a
	}
	l.apply(table, map[string]nft.Service{"by/stander": bystander})
	for i, turn := range []func(string) string{func(s string) string { return s }, sixth} {
		answers := map[string]chan outcome{}
		for _, who := range []string{"pod", "client"} {
			answers[who] = l.call(who, target("203.0.113.9:80", turn))
			_, from := l.source(who)
			l.unanswered(both(from)[i], both("203.0.113.9")[i])
		}
		services, slices := objects(t, turn(transitionObjects))
		w := Service(services[0], slices, testNode(), nft.Random).Wish
		_, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": w}})
		l.check(err)
		_, err = table.Sweep()
		l.check(err)
		for who, answer := range answers {
			if got := <-answer; got.failure != "sent again" {
				t.Errorf("the call of %s: %+v, want an answer to a packet that was sent again", who, got)
			}
		}
		_, err = table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: map[string]nft.Service{"shop/web": {}}})
		l.check(err)
	}
}

// call connects and says what came of it.
func (l *lab) call(from, to string) chan outcome {
	l.t.Helper()
	ns, _ := l.source(from)
	answer := make(chan outcome, 1)
	go func() {
		if err := tryIn(ns, func() error { answer <- dialOnce(longPatience, netip.Addr{}, to); return nil }); err != nil {
			answer <- outcome{failure: err.Error()}
		}
	}()
	return answer
}

// unanswered waits until the node has let a packet pass that nobody answers.
func (l *lab) unanswered(from, to netip.Addr) {
	l.t.Helper()
	family := map[bool]string{true: "ipv4", false: "ipv6"}[to.Is4()]
	deadline := time.Now().Add(longPatience)
	for !strings.Contains(l.run(l.node, "conntrack", "-L", "-f", family, "-s", from.String(), "-d", to.String()), "UNREPLIED") {
		if time.Now().After(deadline) {
			l.t.Fatalf("no packet from %s to %s came by within %s", from, to, longPatience)
		}
	}
}
