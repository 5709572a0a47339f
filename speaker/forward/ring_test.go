package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/speaker/nft"
)

// ring makes both nodes ask each other about connections they do not know.
func (l *lab) ring(turn func(string) string) {
	l.t.Helper()
	next := map[string]netns.NsHandle{nodeAddr: l.node2, node2Addr: l.node}
	for to, ns := range next {
		want := map[netip.Addr]netip.Addr{netip.MustParseAddr(turn(movedAddr)): netip.MustParseAddr(turn(to))}
		l.in(ns, func() error {
			r, err := nft.OpenRings()
			if err != nil {
				return err
			}
			return errors.Join(r.Apply(context.Background(), want), r.Close())
		})
	}
}

// TestRing has a router lead packets to another node than before, again and again: connections go on, and end in order,
// at the node where they began.
func TestRing(t *testing.T) {
	bothFamilies(t, 2, func(t *testing.T, l *lab, turn func(string) string) {
		l.ring(turn)
		to := target(movedAddr+":80", turn)
		var open []net.Conn
		for _, at := range []string{nodeAddr, node2Addr, nodeAddr, node2Addr} {
			l.move(at)
			if have := broken(open); len(have) > 0 {
				t.Errorf("led to %s: %v of %d", at, have, len(open))
			}
			open = append(open, l.open(10, to)...)
		}
		for i, c := range open {
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(c); err != nil {
				t.Fatalf("connection %d: the pod does not hear of its end: %q, %v", i, rest, err)
			}
		}
	})
}

// TestRingNobodyKnows asks all nodes for a connection that none knows: the client hears that it is gone.
func TestRingNobodyKnows(t *testing.T) {
	bothFamilies(t, 2, func(t *testing.T, l *lab, turn func(string) string) {
		l.ring(turn)
		l.move(nodeAddr)
		open := l.open(3, target(movedAddr+":80", turn))
		h := l.handle(l.node)
		defer h.Close()
		l.check(h.ConntrackTableFlush(netlink.ConntrackTable))
		if have := broken(open); have["reset"] != len(open) {
			t.Errorf("%v of %d", have, len(open))
		}
	})
}

// TestEndOfNothing sends a FIN and a RST of no connection to a Service's address: the node must not send them back to
// the router, which would send them back to the node.
func TestEndOfNothing(t *testing.T) {
	const fin, rst = 0x11, 0x04
	bothFamilies(t, 2, func(t *testing.T, l *lab, turn func(string) string) {
		to := netip.MustParseAddrPort(target(movedAddr+":80", turn))
		from := netip.AddrPortFrom(netip.MustParseAddr(turn(clientAddr)), 4321)
		l.move(nodeAddr)
		l.route(l.node, movedAddr+"/32", node2Addr) // stands for the router that a node sends everything to that is not its own
		l.in(l.node2, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(to.Addr().AsSlice())})
		})
		ear := l.listenRaw(l.node2, to.Addr())
		l.in(l.client, func() error { return errors.Join(sendSegment(from, to, fin, 1), sendSegment(from, to, rst, 2)) })
		if hears(patience, ear, to.Port()) {
			t.Error("it came back")
		}
	})
}

// seen counts the packets to an address that reach a namespace, until the returned function reads the number.
func (l *lab) seen(ns netns.NsHandle, to netip.Addr) func() int {
	l.t.Helper()
	family := map[bool]string{true: "ip", false: "ip6"}[to.Is4()]
	nftables := func(words string) []byte {
		var out []byte
		l.in(ns, func() error {
			var err error
			out, err = exec.Command("nft", strings.Fields(words)...).Output()
			return err
		})
		return out
	}
	nftables("add table " + family + " counted")
	nftables("add counter " + family + " counted seen")
	nftables("add chain " + family + " counted every { type filter hook prerouting priority -350 ; }")
	nftables("add rule " + family + " counted every " + family + " daddr " + to.String() + " counter name seen")
	return func() int {
		match := regexp.MustCompile(`packets (\d+)`).FindSubmatch(nftables("list counter " + family + " counted seen"))
		n, err := strconv.Atoi(string(match[1]))
		l.check(err)
		return n
	}
}

// TestRingIsBounded sends segments of no connection: each node is asked once for each of them, and no more often than
// the limit allows.
func TestRingIsBounded(t *testing.T) {
	const ack, crowd, rate, burst = 0x10, 20_000, 20_000, 5_000
	bothFamilies(t, 2, func(t *testing.T, l *lab, turn func(string) string) {
		l.ring(turn)
		l.move(nodeAddr)
		to := netip.MustParseAddrPort(target(movedAddr+":80", turn))
		from := netip.MustParseAddr(turn(clientAddr))
		first, second := l.seen(l.node, to.Addr()), l.seen(l.node2, to.Addr())
		ear := l.listenRaw(l.client, from)
		l.in(l.client, func() error { return sendSegment(netip.AddrPortFrom(from, 4321), to, ack, 1) })
		if !hears(longPatience, ear, 4321) { // the reset of a pod, when all have been asked
			t.Error("no answer")
		}
		if a, b := first(), second(); a != 1 || b != 1 {
			t.Errorf("one segment: the first node gets %d, the second %d", a, b)
		}
		began := time.Now()
		l.in(l.client, func() error { return sendSegments(netip.AddrPortFrom(from, 10_000), to, ack, 1, crowd) })
		took := time.Since(began)
		most := burst + int(took.Seconds()*rate) + rate/10
		if passed := second() - 1; passed > most || passed < min(burst, crowd)/2 {
			t.Errorf("of %d in %s, %d are passed on, want at most %d", crowd, took, passed, most)
		}
		t.Logf("of %d in %s, %d are passed on", crowd, took, second()-1)
	})
}
