package forward

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestEven spreads many connections over the endpoints within 10 %, however one is chosen.
func TestEven(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	var eps []string
	for _, p := range ports {
		eps = append(eps, fmt.Sprintf("%s:%d", hereAddrs[0], p))
		l.hear(l.here, hereAddrs[0], p)
	}
	for name, pick := range map[string]nft.Pick{"random": nft.Random, "consistent-hash": nft.Hash} {
		t.Run(name, func(t *testing.T) {
			how := func(target *nft.Target) { target.Pick = pick }
			l.apply(table, map[string]nft.Service{"a/b": simple(nft.UDP, 80, how, eps...)})
			eachFamily(t, func(t *testing.T, in func(string) string) {
				l := *l
				l.t = t
				l.even(in(vip+":80"), eps, in)
			})
		})
	}
}

// even expects that each endpoint gets its share of 10,000 connections.
func (l *lab) even(to string, eps []string, in func(string) string) {
	l.t.Helper()
	const n = 10000
	count := map[string]int{}
	l.in(l.pod, func() error {
		for i := range n {
			got := fromPort(20000+i, to)
			if !strings.Contains(got, ":") {
				return fmt.Errorf("a datagram failed: %s", got)
			}
			count[got]++
		}
		return nil
	})
	for _, e := range eps {
		// 10 % are nearly six standard deviations with four endpoints.
		if got := count[in(e)]; got < n/len(eps)*9/10 || got > n/len(eps)*11/10 {
			l.t.Errorf("%s got %d of %d", e, got, n)
		}
	}
}

// TestHashAgrees: two nodes that know the same endpoints choose alike for the
// same client, and do not choose the same for all clients.
func TestHashAgrees(t *testing.T) {
	hash := func(target *nft.Target) { target.Pick = nft.Hash }
	var choices [2][]string
	for i := range choices {
		l := newLab(t)
		for _, a := range hereAddrs {
			l.hear(l.here, a, 53)
		}
		table := l.fresh()
		l.apply(table, map[string]nft.Service{"a/b": simple(nft.UDP, 53, hash, "10.244.1.1:53", "10.244.1.2:53", "10.244.1.3:53")})
		l.in(l.pod, func() error {
			for _, addr := range both(vip) {
				for port := range 20 {
					choices[i] = append(choices[i], fromPort(40000+port, netip.AddrPortFrom(addr, 53).String()))
				}
			}
			return nil
		})
	}
	seen := map[string]bool{}
	for i, one := range choices[0] {
		seen[one] = true
		if other := choices[1][i]; one != other {
			t.Errorf("client %d: one node chose %s, the other %s", i, one, other)
		}
	}
	if len(seen) != 6 {
		t.Errorf("only %v were chosen", seen)
	}
}

// TestFewFlowsMove: when an endpoint comes, it takes its share of the clients
// and few others move, and all is as before when it goes again. 13 endpoints
// have a larger table in the kernel than 12.
func TestFewFlowsMove(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	var all []string
	for _, a := range hereAddrs {
		for _, p := range ports {
			l.hear(l.here, a, p)
			all = append(all, fmt.Sprintf("%s:%d", a, p))
		}
	}
	l.hear(l.far, "10.244.2.1", 53)
	slices.Sort(all)
	hash := func(target *nft.Target) { target.Pick = nft.Hash }
	put := func(eps ...string) {
		l.apply(table, map[string]nft.Service{"a/b": simple(nft.UDP, 80, hash, eps...)})
	}
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		const clients = 400
		ask := func() (choices []string) {
			l.run(l.node, "conntrack", "-F") // they are to be new clients
			l.in(l.pod, func() error {
				for i := range clients {
					choices = append(choices, fromPort(30000+i, in(vip+":80")))
				}
				return nil
			})
			return choices
		}
		put(all...)
		before := ask()
		put(append(all, "10.244.2.1:53")...)
		come, moved := 0, 0
		for i, now := range ask() {
			switch {
			case now == in("10.244.2.1:53"):
				come++
			case now != before[i]:
				moved++
			}
		}
		t.Logf("of %d clients %d went to the new one of 13 endpoints, %d moved among the others", clients, come, moved)
		if come < 10 || come > 60 || moved > clients/8 {
			t.Errorf("of %d clients %d went to the new one of 13 endpoints, %d moved among the others", clients, come, moved)
		}
		put(all...)
		if after := ask(); !slices.Equal(before, after) {
			t.Errorf("not as before: %v, %v", before, after)
		}
	})
}

// fromPort sends a datagram from a port and says who answered.
func fromPort(port int, to string) string {
	d := net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}
	c, err := d.Dial("udp", to)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	out := ask(longPatience, c)
	return out.endpoint + out.failure
}
