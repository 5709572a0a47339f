package members

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const patience = 20 * time.Second

var testKey = bytes.Repeat([]byte{7}, 32)

// node is a member in this process, on a loopback address.
type node struct {
	*Gossip
	t    *testing.T
	bell chan struct{}
}

func start(t *testing.T, name string, bind string, key []byte) *node {
	t.Helper()
	n := &node{t: t, bell: make(chan struct{}, 1)}
	cfg := Config{Name: name, Bind: netip.MustParseAddrPort(bind), Key: key, Rejoin: 500 * time.Millisecond}
	var err error
	n.Gossip, err = Open(cfg, slog.New(slog.DiscardHandler), n.bell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// meet makes all nodes each other's peers.
func meet(nodes ...*node) {
	var peers []netip.AddrPort
	for _, n := range nodes {
		peers = append(peers, n.Address())
	}
	for _, n := range nodes {
		n.SetPeers(peers)
	}
}

// sees waits for the bell until the snapshot is as wanted: "name state meta" of each member.
func (n *node) sees(want ...string) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		have := describe(n.Snapshot())
		if cmp.Equal(want, have) {
			return
		}
		select {
		case <-n.bell:
		case <-deadline:
			n.t.Fatalf("%s (-want +got)\n%s", n.cfg.Name, cmp.Diff(want, have))
		}
	}
}

func describe(members []Member) (out []string) {
	for _, m := range members {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %.8s", m.Name, m.State, m.Meta)))
	}
	return out
}

func three(t *testing.T) (a, b, c *node) {
	t.Helper()
	a, b, c = start(t, "a", "127.0.0.1:0", testKey), start(t, "b", "127.0.0.1:0", testKey), start(t, "c", "127.0.0.1:0", testKey)
	for _, n := range []*node{a, b, c} {
		if err := n.SetMeta([]byte("of " + n.cfg.Name)); err != nil {
			t.Fatal(err)
		}
	}
	meet(a, b, c)
	for _, n := range []*node{a, b, c} {
		n.sees("a alive of a", "b alive of b", "c alive of c")
	}
	return a, b, c
}

func TestMembersMeet(t *testing.T) {
	for family, bind := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"} {
		t.Run(family, func(t *testing.T) {
			a, b := start(t, "a", bind, testKey), start(t, "b", bind, testKey)
			a.sees("a alive")
			meet(a, b)
			a.sees("a alive", "b alive")
			b.sees("a alive", "b alive")
			if have := a.Snapshot()[1].Address; have != b.Address() {
				t.Errorf("want %s, have %s", b.Address(), have)
			}
		})
	}
}

func TestALargeMetaArrives(t *testing.T) {
	a, b, c := three(t)
	meta := bytes.Repeat([]byte("0123456789abcdef"), MaxMeta/16)
	begin := time.Now()
	if err := a.SetMeta(meta); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{b, c} {
		n.sees("a alive 01234567", "b alive of b", "c alive of c")
		if have := n.Snapshot()[0].Meta; !bytes.Equal(have, meta) {
			t.Errorf("%d bytes arrived of %d", len(have), len(meta))
		}
	}
	t.Logf("16 KiB were known to all after %s", time.Since(begin))
	if err := a.SetMeta(append(meta, 'x')); err == nil {
		t.Error("want too large a meta refused")
	}
	if have := a.Snapshot()[0].Meta; !bytes.Equal(have, meta) {
		t.Error("a refused meta changed something")
	}
}

func TestDeath(t *testing.T) {
	a, b, c := three(t)
	begin := time.Now()
	_ = c.Close()
	a.sees("a alive of a", "b alive of b", "c dead of c")
	t.Logf("death was noticed after %s", time.Since(begin))
	b.sees("a alive of a", "b alive of b", "c dead of c")

	meet(a, b) // c is not to come back
	a.sees("a alive of a", "b alive of b")
	b.sees("a alive of a", "b alive of b")
}

func TestLeave(t *testing.T) {
	a, b, c := three(t)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Leave(ctx); err != nil {
		t.Error(err)
	}
	took := time.Since(begin)
	a.sees("a alive of a", "b alive of b", "c left of c")
	b.sees("a alive of a", "b alive of b", "c left of c")
	t.Logf("leaving took %s, and was known after %s", took, time.Since(begin))
}

func TestRestartUnderTheSameName(t *testing.T) {
	ends := map[string]func(*node){
		"after leaving": func(n *node) { _ = n.Leave(n.t.Context()) },
		"after dying":   func(n *node) { _ = n.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			a, b, c := three(t)
			bind := c.Address().String()
			end(c)
			c = start(t, "c", bind, testKey) // at once, before its death is noticed
			if err := c.SetMeta([]byte("again")); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			meet(a, b, c)
			for _, n := range []*node{a, b, c} {
				n.sees("a alive of a", "b alive of b", "c alive again")
			}
			t.Logf("back after %s", time.Since(begin))
		})
	}
}

// The clock of a node was ahead in its former life: its new life has the lower number, and is heard all the same.
func TestRestartAfterTheClockWentBack(t *testing.T) {
	a, b, c := three(t)
	c.book.say(func(r *record) { r.epoch += uint64(time.Hour) })
	if err := c.SetMeta([]byte("ahead")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, b} {
		n.sees("a alive of a", "b alive of b", "c alive ahead")
	}
	bind := c.Address().String()
	_ = c.Close()
	c = start(t, "c", bind, testKey)
	if err := c.SetMeta([]byte("again")); err != nil {
		t.Fatal(err)
	}
	meet(a, b, c)
	for _, n := range []*node{a, b, c} {
		n.sees("a alive of a", "b alive of b", "c alive again")
	}
}

func TestRestartWithAnotherAddress(t *testing.T) {
	a, b, c := three(t)
	_ = c.Close()
	a.sees("a alive of a", "b alive of b", "c dead of c")
	b.sees("a alive of a", "b alive of b", "c dead of c")
	c = start(t, "c", "127.0.0.1:0", testKey)
	meet(a, b, c)
	for _, n := range []*node{a, b} {
		n.sees("a alive of a", "b alive of b", "c alive") // it has said nothing in this life
		n.await("the new address", func() bool { return n.Snapshot()[2].Address == c.Address() })
	}
}

func (n *node) await(what string, f func() bool) {
	n.t.Helper()
	deadline := time.After(patience)
	for !f() {
		select {
		case <-n.bell:
		case <-deadline:
			n.t.Fatalf("%s waited in vain for %s", n.cfg.Name, what)
		}
	}
}

// TestAWrongKeyIsNotHeard lets a stranger call for as long as friends need to meet.
func TestAWrongKeyIsNotHeard(t *testing.T) {
	a, b := start(t, "a", "127.0.0.1:0", testKey), start(t, "b", "127.0.0.1:0", testKey)
	stranger := start(t, "stranger", "127.0.0.1:0", bytes.Repeat([]byte{8}, 32))
	if err := stranger.SetMeta([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, n := range []*node{a, b} {
			if _, err := stranger.list.Join([]string{n.Address().String()}); err == nil {
				t.Error("want the stranger refused")
			}
			if _, err := n.list.Join([]string{stranger.Address().String()}); err == nil {
				t.Error("want the stranger not understood")
			}
		}
	}
	meet(a, b, stranger)
	a.sees("a alive", "b alive")
	b.sees("a alive", "b alive")
	stranger.sees("stranger alive hello")
}

func TestTheKeyIsNotLogged(t *testing.T) {
	key := []byte("0123456789ABCDEF")
	for name, cfg := range map[string]Config{
		"key of a wrong length": {Name: "a", Bind: netip.MustParseAddrPort("127.0.0.1:0"), Key: key[:15]},
		"address not ours":      {Name: "a", Bind: netip.MustParseAddrPort("192.0.2.1:0"), Key: key},
		"no name":               {Bind: netip.MustParseAddrPort("127.0.0.1:0"), Key: key},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			g, err := Open(cfg, log, make(chan struct{}, 1))
			if err == nil {
				_ = g.Close()
				t.Fatal("want an error")
			}
			for _, secret := range []string{string(key[:15]), fmt.Sprint(key[:15])} {
				if all := out.String() + err.Error(); strings.Contains(all, strings.Trim(secret, "[]")) {
					t.Errorf("the key is in %q", all)
				}
			}
		})
	}
}
