//go:build interop

package bgp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// listening is FRR as it connects itself, every second.
const listening = " neighbor 10.9.0.1 remote-as 64512\n neighbor 10.9.0.1 port 1790\n neighbor 10.9.0.1 timers connect 1\n" +
	"%s address-family ipv4 unicast\n  neighbor 10.9.0.1 activate\n exit-address-family\n"

// A peer that we cannot connect to connects to us, once we listen; and no more when we no longer do.
func TestListen(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		peer   func(*bgp.Peer)
	}{
		"plain": {"", func(*bgp.Peer) {}},
		"MD5":   {" neighbor 10.9.0.1 password s3cret\n", func(p *bgp.Peer) { p.Password = "s3cret" }},
		"GTSM":  {" neighbor 10.9.0.1 ttl-security hops 1\n", func(p *bgp.Peer) { p.TTLSecurity = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			router := startFRR(t, 64513, fmt.Sprintf(listening, test.config))
			room, peer := newRoom(t), basic()
			test.peer(&peer)
			peer.Port = 1791 // where FRR does not listen
			apply(t, room, peer, v4())
			untilError(t, room, "connect to 10.9.0.2:1791")
			peer.ListenPort = 1790
			apply(t, room, peer, v4())
			untilEstablished(t, room)
			untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
			peer.ListenPort = 0
			apply(t, room, peer, v4())
			if p := room.Report().Peers[0]; p.Established != 1 || p.State != bgp.Established {
				t.Errorf("the session ended with the listening: %+v", p)
			}
			room.Drop("router", "test")
			untilError(t, room, "connect to 10.9.0.2:1791")
			if _, err := net.Dial("tcp4", "10.9.0.1:1790"); err == nil {
				t.Error("the door is open still")
			}
		})
	}
}

// Both sides connect, again and again and at once: one session comes of it, and stays.
func TestCollision(t *testing.T) {
	for name, id := range map[string]string{"ours is lower": "10.9.0.1", "ours is higher": "10.9.0.3"} {
		t.Run(name, func(t *testing.T) {
			router := startFRR(t, 64513, fmt.Sprintf(listening, ""))
			room, peer := newRoom(t), basic()
			peer.RouterID, peer.ListenPort = addr(id), 1790
			for range 10 {
				apply(t, room, peer, v4())
				untilEstablished(t, room)
				untilFRR(t, router, "192.0.2.10/32", `via 10.9.0.1 aspath "64512"`)
				router.Vtysh("clear bgp *")
				room.Drop("router", "test")
			}
		})
	}
}

// The rules about two connections, with a peer that we are.
func TestReferee(t *testing.T) {
	needsRoot(t)
	for name, test := range map[string]struct {
		id          string
		up          bool // the first is established
		wantsSecond bool
	}{
		"the peer's ID is higher":                  {id: "10.9.0.1", wantsSecond: true},
		"ours is higher":                           {id: "10.9.0.3"},
		"established, though the peer's is higher": {id: "10.9.0.1", up: true},
	} {
		t.Run(name, func(t *testing.T) {
			first := make(chan net.Conn, 1)
			peer := hostile(t, func(c net.Conn) {
				select {
				case first <- c:
				default:
					return // later attempts
				}
				c.Write(patient)
				if test.up {
					c.Write(msg(4))
				}
				io.Copy(io.Discard, c)
				first <- nil // it has ended
			})
			peer.RouterID, peer.ListenPort = addr(test.id), 1793
			room := newRoom(t)
			apply(t, room, peer, v4())
			want := map[bool]bgp.State{true: bgp.Established, false: bgp.OpenConfirm}[test.up]
			routertest.Until(t, 5*time.Second, func() string {
				if p := room.Report().Peers[0]; p.State != want {
					return string(p.State)
				}
				return ""
			})
			second, err := net.Dial("tcp4", "127.0.0.1:1793")
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if err := second.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			kind, body, err := receive(second)
			if err != nil {
				t.Fatal(err)
			}
			if test.wantsSecond != (kind == 1) || !test.wantsSecond && (body[0] != 6 || body[1] != 7) {
				t.Errorf("the second connection gets a message of type %d: %v", kind, body)
			}
		})
	}
}

// A port that another BGP daemon has is named, and the session comes up all the same.
func TestPortIsTaken(t *testing.T) {
	router := startFRR(t, 64513, external)
	other, err := net.Listen("tcp4", ":1794")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	room, peer := newRoom(t), basic()
	peer.ListenPort, peer.Port = 1794, 1791
	apply(t, room, peer, v4())
	routertest.Until(t, 5*time.Second, func() string {
		if p := room.Report().Peers[0]; !strings.Contains(p.Reason, "listen on port 1794: another program on this node has it") {
			return p.Reason
		}
		return ""
	})
	peer.Port = 0
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	_ = router
}

// Who is no peer is turned away.
func TestStranger(t *testing.T) {
	router := startFRR(t, 64513, external)
	room, peer := newRoom(t), basic()
	peer.ListenPort = 1790
	apply(t, room, peer, v4())
	untilEstablished(t, room)
	stranger, err := net.Dial("tcp4", "127.0.0.1:1790")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if n, err := stranger.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("it hears %d bytes, %v", n, err)
	}
	_ = router
}
