package forward

import (
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/speaker/nft"
)

// untranslated counts what the node forwards although it is for a Service's
// address, and drops all else, so that every datagram is the first of a connection.
const untranslated = `table inet probe {
	chain forward {
		type filter hook forward priority 0; policy drop
		ip daddr 10.96.0.1 counter drop
		ip6 daddr fd96::1 counter drop
	}
}`

// TestFirstPackets sends first packets all the time while the Service gets one
// new class after the other. A packet that the kernel leads into a chain of
// rules that it does not see yet would leave untranslated, and all of its
// connection after it.
func TestFirstPackets(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.run(l.node, "nft", untranslated)
	seconds := uint32(0) // another timeout is another class
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		put := func() {
			seconds++
			sticky := func(target *nft.Target) { target.Affinity = seconds }
			l.apply(table, map[string]nft.Service{"a/b": simple(nft.UDP, 80, sticky, "10.244.1.1:8080", "10.244.2.1:8080")})
		}
		put()
		stop := l.flood(l.pod, in(vip+":80"))
		for range 300 {
			put()
		}
		t.Logf("%d datagrams", stop())
		if n := l.counted(untranslated); n > 0 {
			t.Errorf("%d first packets left untranslated", n)
		}
	})
}

// run runs a command in a namespace.
func (l *lab) run(ns netns.NsHandle, name string, args ...string) string {
	l.t.Helper()
	var out []byte
	l.in(ns, func() error {
		var err error
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, out)
		}
		return nil
	})
	return string(out)
}

var packets = regexp.MustCompile(`counter packets (\d+)`)

// counted sums the counters of the node's table probe and makes it anew.
func (l *lab) counted(table string) int {
	l.t.Helper()
	sum := 0
	for _, m := range packets.FindAllStringSubmatch(l.run(l.node, "nft", "list", "table", "inet", "probe"), -1) {
		n, err := strconv.Atoi(m[1])
		l.check(err)
		sum += n
	}
	l.run(l.node, "nft", strings.Join([]string{"delete table inet probe", table}, "\n"))
	return sum
}

// flood sends datagrams until the function it returns is called, which says how many.
func (l *lab) flood(ns netns.NsHandle, to string) (stop func() int) {
	l.t.Helper()
	var ended atomic.Bool
	sent := make(chan int)
	var c net.Conn
	l.in(ns, func() error {
		var err error
		c, err = net.Dial("udp", to)
		return err
	})
	go func() {
		n := 0
		for ; !ended.Load(); n++ {
			_, _ = c.Write([]byte("x"))
		}
		_ = c.Close()
		sent <- n
	}()
	return func() int {
		ended.Store(true)
		return <-sent
	}
}
