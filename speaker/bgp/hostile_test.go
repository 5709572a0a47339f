//go:build interop

package bgp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// hostile listens as a peer and hands every connection to the function; the connection
// is closed when it returns.
func hostile(t testing.TB, talk func(net.Conn)) bgp.Peer {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				talk(conn)
			}()
		}
	}()
	p := basic()
	p.Address, p.Port = addr("127.0.0.1"), uint16(l.Addr().(*net.TCPAddr).Port)
	return p
}

func msg(kind byte, body ...byte) []byte {
	m := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	m = append(m, body...)
	binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
	return m
}

// open is a good OPEN of AS 64513 with a hold time of 9 s and 4-byte ASNs.
var open = msg(1, 4, 0xfc, 0x01, 0, 9, 10, 9, 0, 2, 8, 2, 6, 65, 4, 0, 0, 0xfc, 0x01)

// patient is the same with a hold time of 90 s.
var patient = bytes.Replace(open, []byte{0, 9, 10, 9}, []byte{0, 90, 10, 9}, 1)

// greet brings the session up on the peer's side.
func greet(conn net.Conn) bool {
	if _, err := conn.Write(append(bytes.Clone(open), msg(4)...)); err != nil {
		return false
	}
	for {
		kind, _, err := receive(conn)
		if err != nil || kind == 4 {
			return err == nil
		}
	}
}

func receive(conn net.Conn) (kind byte, body []byte, err error) {
	header := make([]byte, 19)
	if _, err = io.ReadFull(conn, header); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint16(header[16:])-19)
	_, err = io.ReadFull(conn, body)
	return header[18], body, err
}

func needsRoot(t testing.TB) { routertest.NewRouter(t, "none") }

// Whatever a peer sends, it is named, and the other peer never notices.
func TestHostilePeers(t *testing.T) {
	router := startFRR(t, 64513, external)
	update := msg(2, 0, 0, 0, 5, 0x40, 1, 200, 0, 0, 24, 1, 2, 3) // an attribute longer than the message
	tests := []struct {
		name string
		talk func(net.Conn)
		want string
	}{
		{"garbage", func(c net.Conn) { c.Write(bytes.Repeat([]byte("HTTP/1.1 400 "), 100)); io.Copy(io.Discard, c) }, "it sends something that is not BGP"},
		{"too long", func(c net.Conn) {
			c.Write(append(bytes.Repeat([]byte{0xff}, 16), 0xff, 0xff, 2))
			io.Copy(io.Discard, c)
		}, "it sends a message of 65535 bytes"},
		{"malformed OPEN", func(c net.Conn) { c.Write(msg(1, 4, 0xfc, 1, 0, 9, 10, 9, 0, 2, 255, 2, 255)); io.Copy(io.Discard, c) }, "it sends a malformed OPEN"},
		{"UPDATE first", func(c net.Conn) { c.Write(update); io.Copy(io.Discard, c) }, "it does not begin with an OPEN"},
		{"closes at once", func(c net.Conn) {}, "the peer closed the connection"},
		{"closes in mid-message", func(c net.Conn) {
			if greet(c) {
				c.Write(update[:25])
				c.(*net.TCPConn).CloseWrite() // what it has not read would make a Close a reset
				io.Copy(io.Discard, c)
			}
		}, "read from the peer: unexpected EOF"},
		{"sends no OPEN", func(c net.Conn) { io.Copy(io.Discard, c) }, "it took the connection but has sent no OPEN for 10s"},
		{"sends no KEEPALIVE", func(c net.Conn) { c.Write(patient); io.Copy(io.Discard, c) }, "it took the connection but has sent no KEEPALIVE for 10s"},
		{"unknown type", func(c net.Conn) {
			if greet(c) {
				c.Write(msg(77))
				io.Copy(io.Discard, c)
			}
		}, "it sends a message of type 77 out of turn"},
		{"NOTIFICATION with a text", func(c net.Conn) {
			if greet(c) {
				c.Write(msg(3, append([]byte{6, 2, 9}, "night off"...)...))
			}
		}, `the peer ended the session: code 6(cease) subcode 2(administrative shutdown): "night off"`},
		{"falls silent", func(c net.Conn) {
			if greet(c) {
				io.Copy(io.Discard, c)
			}
		}, "hold timer expired"},
		{"resets", func(c net.Conn) {
			if greet(c) {
				c.(*net.TCPConn).SetLinger(0)
			}
		}, "connection reset by peer"},
	}
	room := newRoom(t)
	good := basic()
	good.Key = "good"
	wish := bgp.Wish{Peers: []bgp.Peer{good}, Routes: map[string][]bgp.Route{"good": {v4()}}}
	for _, test := range tests {
		p := hostile(t, test.talk)
		p.Key, p.HoldTime = test.name, 3*time.Second
		if test.name == "sends no KEEPALIVE" {
			p.HoldTime = 30 * time.Second
		}
		wish.Peers = append(wish.Peers, p)
		wish.Routes[p.Key] = []bgp.Route{v4()}
	}
	if _, err := room.Apply(t.Context(), wish); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		routertest.Until(t, 30*time.Second, func() string {
			for _, p := range room.Report().Peers {
				if p.Key == test.name && strings.Contains(p.LastError, test.want) {
					return ""
				} else if p.Key == test.name {
					return fmt.Sprintf("%s: %q, want %q", test.name, p.LastError, test.want)
				}
			}
			return "no report"
		})
	}
	untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
	for _, p := range room.Report().Peers {
		if p.Key == "good" && (p.Established != 1 || p.State != bgp.Established) {
			t.Errorf("the good peer noticed: %+v", p)
		}
	}
}

// A malformed UPDATE and 100,000 routes change nothing, not even the memory much.
func TestRoutesOfThePeerAreNotKept(t *testing.T) {
	needsRoot(t)
	const routes = 100_000
	p := hostile(t, func(c net.Conn) {
		if !greet(c) {
			return
		}
		go io.Copy(io.Discard, c)
		c.Write(msg(2, 0, 0, 0, 5, 0x40, 1, 200, 0, 0, 24, 1, 2, 3))
		attributes := []byte{0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 10, 9, 0, 2}
		for i := range routes {
			body := append([]byte{0, 0, 0, byte(len(attributes))}, attributes...)
			c.Write(msg(2, append(body, 32, 100, byte(i>>16), byte(i>>8), byte(i))...))
		}
		for range time.Tick(time.Second) {
			if _, err := c.Write(msg(4)); err != nil {
				return
			}
		}
	})
	room := newRoom(t)
	apply(t, room, p, v4())
	untilEstablished(t, room)
	before := heap()
	routertest.Until(t, 20*time.Second, func() string {
		if r := room.Report().Peers[0]; r.Ignored != routes+1 {
			return fmt.Sprintf("%s, %d UPDATEs ignored, %q", r.State, r.Ignored, r.LastError)
		}
		return ""
	})
	grown := int64(heap()) - int64(before)
	if grown > 2<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	if r := room.Report().Peers[0]; r.State != bgp.Established || r.Established != 1 {
		t.Errorf("%+v", r)
	}
	t.Logf("%d routes ignored, heap %+d KiB", routes, grown>>10)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Sessions that come and go leave nothing behind.
func TestResetsLeaveNothingBehind(t *testing.T) {
	needsRoot(t)
	resets := 1000
	if testing.Short() {
		resets = 20
	}
	p := hostile(t, func(c net.Conn) { greet(c) })
	room := newRoom(t)
	apply(t, room, p, v4())
	untilResets := func(n uint64) {
		routertest.Until(t, 120*time.Second, func() string {
			room.Poke()
			if r := room.Report().Peers[0]; r.Established < n {
				return fmt.Sprintf("%d sessions: %q", r.Established, r.LastError)
			}
			return ""
		})
	}
	untilResets(20)
	before, goroutines := heap(), runtime.NumGoroutine()
	untilResets(20 + uint64(resets))
	grown := int64(heap()) - int64(before)
	t.Logf("%d resets: heap %+d KiB, goroutines %+d", resets, grown>>10, runtime.NumGoroutine()-goroutines)
	if grown > 2<<20 || runtime.NumGoroutine() > goroutines+20 {
		t.Errorf("something stays behind")
	}
}

// swallow is a peer that takes everything and says it lives.
func swallow(conn net.Conn) {
	if !greet(conn) {
		return
	}
	go func() {
		for range time.Tick(time.Second) {
			if _, err := conn.Write(msg(4)); err != nil {
				return
			}
		}
	}()
	io.Copy(io.Discard, conn)
}

// A peer that says it lives and takes nothing is given up after the hold time.
func TestStalledPeer(t *testing.T) {
	needsRoot(t)
	p := hostile(t, func(c net.Conn) {
		c.(*net.TCPConn).SetReadBuffer(2048)
		if greet(c) {
			for range time.Tick(time.Second) {
				if _, err := c.Write(msg(4)); err != nil {
					return
				}
			}
		}
	})
	p.HoldTime = 3 * time.Second
	routes := many(10_000)
	for i := range routes { // one UPDATE each
		routes[i].MED = bgp.Metric{Value: uint32(i), Set: true}
	}
	room := newRoom(t)
	apply(t, room, p, routes...)
	start := time.Now()
	untilError(t, room, "the peer has taken no data for the hold time of 3s")
	t.Logf("given up after %s", time.Since(start).Round(time.Millisecond))
}
