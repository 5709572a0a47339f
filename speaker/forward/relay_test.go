package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/speaker/nft"
)

// movedAddr is an address that one node had, and the other has now.
const movedAddr = "172.30.0.200"

// twoNodes makes both nodes forward the same Service, each with its own random choice, in a ring of some size or none.
func (l *lab) twoNodes(ring int, turn func(string) string) {
	l.t.Helper()
	services, slices := objects(l.t.(*testing.T), turn(transitionObjects))
	w := Service(services[0], slices, testNode(), nft.Random).Wish
	static := l.static()
	static.Announced, static.Ring, static.DropInvalid = both(movedAddr), ring, ring == 0
	for _, ns := range []netns.NsHandle{l.node, l.node2} {
		var table *nft.Table
		l.in(ns, func() error {
			var err error
			table, err = nft.Open(slog.New(slog.DiscardHandler), nil)
			return err
		})
		l.t.Cleanup(func() { _ = table.Close() })
		_, err := table.Apply(context.Background(), nft.Wish{Static: static, Full: true, Changed: map[string]nft.Service{"shop/web": w}})
		l.check(err)
	}
}

// relay makes a node pass connections it does not know to another, or to nobody if to is "".
func (l *lab) relay(ns netns.NsHandle, turn func(string) string, to string) {
	l.t.Helper()
	want := map[netip.Addr]netip.Addr{}
	if to != "" {
		want[netip.MustParseAddr(turn(movedAddr))] = netip.MustParseAddr(turn(to))
	}
	l.in(ns, func() error {
		r, err := nft.OpenRelays()
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		return r.Apply(context.Background(), want)
	})
}

// move makes the client send to another node, as a gratuitous ARP would.
func (l *lab) move(to string) { l.t.Helper(); l.route(l.client, movedAddr+"/32", to) }

// open opens connections from the client and reads who answered.
func (l *lab) open(n int, to string) []net.Conn {
	l.t.Helper()
	var all []net.Conn
	l.in(l.client, func() error {
		for range n {
			c, err := net.DialTimeout("tcp", to, longPatience)
			if err != nil {
				return err
			}
			all = append(all, c)
			l.t.Cleanup(func() { _ = c.Close() })
			if err := errors.Join(c.SetDeadline(time.Now().Add(10*time.Second)), hear(c)); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

func hear(c net.Conn) error {
	_, err := bufio.NewReader(c).ReadString('\n')
	return err
}

// broken says something on every connection and counts those without an echo.
func broken(all []net.Conn) map[string]int {
	count := map[string]int{}
	for _, c := range all {
		_, err := fmt.Fprintln(c, "still there?")
		if err == nil {
			err = hear(c)
		}
		switch {
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			count["reset"]++
		case err != nil:
			count[err.Error()]++
		}
	}
	return count
}

func bothFamilies(t *testing.T, ring int, f func(t *testing.T, l *lab, turn func(string) string)) {
	for i, name := range []string{"ip", "ip6"} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			turn := []func(string) string{func(s string) string { return s }, sixth}[i]
			l.twoNodes(ring, turn)
			f(t, l, turn)
		})
	}
}

// TestMovedConnections moves an address to another node and back: connections live on
// at the node that knows them, and only because of the relay.
func TestMovedConnections(t *testing.T) {
	bothFamilies(t, 0, func(t *testing.T, l *lab, turn func(string) string) {
		to := target(movedAddr+":80", turn)
		l.move(nodeAddr)
		lost, kept := l.open(10, to), l.open(10, to)
		l.move(node2Addr)
		if have := broken(lost); have["reset"] != len(lost) {
			t.Errorf("without a relay: %v of %d: what is this test good for?", have, len(lost))
		}
		l.relay(l.node2, turn, nodeAddr)
		if have := broken(kept); len(have) > 0 {
			t.Errorf("after the move: %v of %d", have, len(kept))
		}
		kept = append(kept, l.open(10, to)...)
		l.relay(l.node, turn, node2Addr)
		l.move(nodeAddr)
		l.relay(l.node2, turn, "")
		if have := broken(kept); len(have) > 0 {
			t.Errorf("after the way back: %v of %d", have, len(kept))
		}
	})
}

// TestMovedToWhereThePortWasUsed moves a connection to a node that remembers an older one of the same client port, which has
// ended: what it takes for a late packet of that one belongs to the node that had the address.
func TestMovedToWhereThePortWasUsed(t *testing.T) {
	const port = 31234
	bothFamilies(t, 0, func(t *testing.T, l *lab, turn func(string) string) {
		l.sysctl(l.client, "ipv4/tcp_max_tw_buckets", "0") // so that a client may use a port again at once
		from := func() *net.TCPConn {
			var conn *net.TCPConn
			l.in(l.client, func() error {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: longPatience}
				c, err := dialer.Dial("tcp", target(movedAddr+":80", turn))
				if err != nil {
					return err
				}
				conn = c.(*net.TCPConn)
				return errors.Join(conn.SetDeadline(time.Now().Add(10*time.Second)), hear(conn))
			})
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		l.move(node2Addr)
		older := from()
		l.check(older.CloseWrite())
		if err := hear(older); !errors.Is(err, io.EOF) {
			t.Errorf("the older connection did not end: %v", err)
		}
		l.check(older.Close())
		l.move(nodeAddr)
		open := []net.Conn{from()}
		l.relay(l.node2, turn, nodeAddr)
		l.move(node2Addr)
		if have := broken(open); len(have) > 0 {
			t.Error(have)
		}
	})
}

// TestMovesDuringHandshakes moves an address to and fro while a client connects: a
// handshake that begins at one node and goes on at the other loses nothing.
func TestMovesDuringHandshakes(t *testing.T) {
	bothFamilies(t, 0, func(t *testing.T, l *lab, turn func(string) string) {
		l.move(nodeAddr)
		l.relay(l.node, turn, node2Addr)
		l.relay(l.node2, turn, nodeAddr)
		ctx, cancel := context.WithCancel(t.Context())
		var moving errgroup.Group
		moving.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				l.move([]string{node2Addr, nodeAddr}[i%2])
			}
			return nil
		})
		const connections = 1000
		if have := l.askMany(l.client, target(movedAddr+":80", turn), connections); have["dropped"]+have["refused"] > 0 || len(have) != 2 {
			t.Errorf("%v of %d connections", have, connections)
		}
		cancel()
		_ = moving.Wait()
	})
}

// TestNobodyKnows has two nodes relay to each other what neither knows: the packet runs
// out of hops, and the client hears that its connection is gone.
func TestNobodyKnows(t *testing.T) {
	bothFamilies(t, 0, func(t *testing.T, l *lab, turn func(string) string) {
		l.move(nodeAddr)
		open := l.open(3, target(movedAddr+":80", turn))
		l.relay(l.node, turn, node2Addr)
		l.relay(l.node2, turn, nodeAddr)
		h := l.handle(l.node)
		defer h.Close()
		l.check(h.ConntrackTableFlush(netlink.ConntrackTable))
		if have := broken(open); have["reset"] != len(open) {
			t.Errorf("%v of %d", have, len(open))
		}
	})
}
