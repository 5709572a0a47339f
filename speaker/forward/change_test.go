package forward

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/nft"
)

const vip = "10.96.0.1"

// simple is a Service with one ClusterIP port in both families.
func simple(proto nft.Proto, port uint16, change func(*nft.Target), eps ...string) nft.Service {
	s := nft.Service{Addresses: both(vip)}
	for i, a := range both(vip) {
		t := nft.Target{}
		for _, e := range eps {
			t.Endpoints = append(t.Endpoints, netip.MustParseAddrPort(endpointIn(e, i)))
		}
		target := nft.None
		kind := nft.Reject
		if len(eps) > 0 {
			kind, target = nft.Cluster, len(s.Targets)
			if change != nil {
				change(&t)
			}
			s.Targets = append(s.Targets, t)
		}
		s.Frontends = append(s.Frontends, nft.Frontend{Addr: a, Proto: proto, Port: port, Kind: kind, Target: target, Short: nft.None})
		s.Serving = append(s.Serving, nft.Serving{Frontends: []int{i}, Endpoints: t.Endpoints})
	}
	return s
}

// endpointIn is "address:port" in IPv4 or its twin in IPv6.
func endpointIn(s string, family int) string {
	ap := netip.MustParseAddrPort(s)
	return netip.AddrPortFrom(both(ap.Addr().String())[family], ap.Port()).String()
}

func (l *lab) apply(table *nft.Table, services map[string]nft.Service) nft.Report {
	l.t.Helper()
	rep, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: services})
	if err == nil {
		_, err = table.Sweep()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return rep
}

func (l *lab) fresh() *nft.Table {
	l.t.Helper()
	table := l.table(nil)
	if _, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Full: true}); err != nil {
		l.t.Fatal(err)
	}
	return table
}

// eachFamily runs a test for the lab's IPv4 and IPv6 addresses.
func eachFamily(t *testing.T, f func(t *testing.T, in func(string) string)) {
	for i, name := range []string{"ip", "ip6"} {
		t.Run(name, func(t *testing.T) { f(t, func(s string) string { return endpointIn(s, i) }) })
	}
}

// ask connects n times from a namespace and counts who answered.
func (l *lab) askMany(ns netns.NsHandle, to string, n int) map[string]int {
	l.t.Helper()
	count := map[string]int{}
	l.in(ns, func() error {
		for range n {
			out := dialOnce(longPatience, netip.Addr{}, to)
			if out.failure != "" {
				count[out.failure]++
			} else {
				count[out.endpoint]++
			}
		}
		return nil
	})
	return count
}

// TestAffinity keeps a client at its endpoint while other endpoints come and
// go, lets it go with its own, and after the timeout.
func TestAffinity(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	sticky := func(target *nft.Target) { target.Affinity = 1000 }
	name := "a/b"
	all := []string{"10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080", "10.244.2.1:8080"}
	l.apply(table, map[string]nft.Service{name: simple(nft.TCP, 80, sticky, all...)})
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		to := in(vip + ":80")
		l.apply(table, map[string]nft.Service{name: simple(nft.TCP, 80, sticky, all...)})
		mine := l.only(l.pod, to, 30)
		host := l.only(l.node, to, 30)
		// Others go.
		var rest []string
		for _, e := range all {
			if in(e) == mine || in(e) == host || len(rest) == 0 {
				rest = append(rest, e)
			}
		}
		l.apply(table, map[string]nft.Service{name: simple(nft.TCP, 80, sticky, rest...)})
		if now := l.only(l.pod, to, 20); now != mine {
			t.Errorf("the pod moved from %s to %s although only others went", mine, now)
		}
		if now := l.only(l.node, to, 20); now != host {
			t.Errorf("the node moved from %s to %s although only others went", host, now)
		}
		// Its own goes.
		var without []string
		for _, e := range all {
			if in(e) != mine {
				without = append(without, e)
			}
		}
		rep := l.apply(table, map[string]nft.Service{name: simple(nft.TCP, 80, sticky, without...)})
		if rep.Sessions == 0 {
			t.Error("no affinity was forgotten")
		}
		moved := l.only(l.pod, to, 20)
		if moved == mine {
			t.Errorf("the pod stays at %s, which is gone", mine)
		}
		// Switched off, everybody is asked again.
		l.apply(table, map[string]nft.Service{name: simple(nft.TCP, 80, nil, all...)})
		if count := l.askMany(l.pod, to, 60); len(count) != len(all) {
			t.Errorf("without affinity only %v answered", count)
		}
	})
}

// only expects that a single endpoint answers all n connections.
func (l *lab) only(ns netns.NsHandle, to string, n int) string {
	l.t.Helper()
	count := l.askMany(ns, to, n)
	if len(count) != 1 {
		l.t.Fatalf("several answered: %v", count)
	}
	for who := range count {
		return who
	}
	return ""
}

// TestAffinityEnds lets the timeout pass: each new connection refreshes it,
// nothing else does.
func TestAffinityEnds(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	sticky := func(target *nft.Target) { target.Affinity = 1 }
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, sticky,
		"10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080", "10.244.2.1:8080")})
	first := l.only(l.pod, vip+":80", 5)
	deadline := time.After(30 * time.Second)
	for {
		if now := l.only(l.pod, vip+":80", 1); now != first {
			return
		}
		select {
		case <-time.After(1200 * time.Millisecond):
		case <-deadline:
			t.Fatalf("still %s after many timeouts", first)
		}
	}
}

// TestEstablishedStays keeps a TCP connection alive while its endpoint leaves
// the Service, the Service changes its mind about everything, and goes.
func TestEstablishedStays(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, "10.244.1.1:8080")})
		var c net.Conn
		l.in(l.pod, func() error {
			var err error
			c, err = net.DialTimeout("tcp", in(vip+":80"), longPatience)
			return err
		})
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]nft.Service{
			"other endpoint": simple(nft.TCP, 80, nil, "10.244.2.1:8080"),
			"no endpoint":    simple(nft.TCP, 80, nil),
			"gone":           {},
		} {
			l.apply(table, map[string]nft.Service{"a/b": s})
			if err := c.SetDeadline(time.Now().Add(longPatience)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintln(c, "still there?"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if line, err := r.ReadString('\n'); err != nil || line != "still there?\n" {
				t.Fatalf("%s: %q, %v", what, line, err)
			}
		}
	})
}

// TestStaleDatagrams moves a client that always sends from the same port, as
// the DNS resolvers of this world do.
func TestStaleDatagrams(t *testing.T) {
	l := newLab(t)
	l.hear(l.here, "10.244.1.1", 53)
	l.hear(l.here, "10.244.1.2", 53)
	table := l.fresh()
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		var c net.Conn
		dial := func() {
			l.in(l.pod, func() error {
				var err error
				c, err = net.Dial("udp", in(vip+":53"))
				return err
			})
		}
		expect := func(what, want string) {
			t.Helper()
			limit := longPatience
			if want == "dropped" {
				limit = patience
			}
			out := ask(limit, c)
			if got := out.endpoint + out.failure; got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
		put := func(eps ...string) nft.Report {
			return l.apply(table, map[string]nft.Service{"a/b": simple(nft.UDP, 53, nil, eps...)})
		}
		l.apply(table, map[string]nft.Service{"a/b": {}})
		dial()
		expect("before the Service exists", "dropped")
		put("10.244.1.1:53")
		expect("first endpoint", in("10.244.1.1:53"))
		put("10.244.1.2:53")
		expect("second endpoint", in("10.244.1.2:53"))
		put("10.244.1.1:53", "10.244.1.2:53")
		expect("more endpoints", in("10.244.1.2:53"))
		if rep := put(); rep.Connections == 0 {
			t.Error("the connection to the last endpoint was not forgotten")
		}
		expect("no endpoint", "refused")
		put("10.244.1.1:53")
		expect("an endpoint again", in("10.244.1.1:53"))
		if rep := l.apply(table, map[string]nft.Service{"a/b": {}}); rep.Connections == 0 {
			t.Error("the connection to a Service that is gone was not forgotten")
		}
		_ = c.Close()
	})
}

// TestThousandEndpoints reaches the first, the last and the ones between.
func TestThousandEndpoints(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	var eps []string
	for i := range 1200 {
		eps = append(eps, fmt.Sprintf("10.244.%d.%d:%d", 100+i/100, i%100+1, 8080))
	}
	eps[0], eps[600], eps[1199] = "10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080"
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, eps...)})
	for round := len(eps); round > 3; round /= 2 {
		rest := append(append([]string{}, eps[:round/2]...), eps[len(eps)-round/2:]...)
		l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, rest...)})
	}
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, eps[0], eps[600], eps[1199])})
	count := l.askMany(l.pod, vip+":80", 60)
	if len(count) != 3 || count["dropped"] > 0 {
		t.Errorf("answers: %v", count)
	}
}

// TestAnnounced pings an announced address and asks it for a port nobody has.
func TestAnnounced(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	static := l.static()
	static.Announced, static.AnswerEcho, static.Echo = both("172.30.0.200"), true, both("172.30.0.200")
	if _, err := table.Apply(context.Background(), nft.Wish{Static: static}); err != nil {
		t.Fatal(err)
	}
	eachFamily(t, func(t *testing.T, in func(string) string) {
		l := *l
		l.t = t
		to := netip.MustParseAddrPort(in("172.30.0.200:81"))
		if count := l.askMany(l.client, to.String(), 3); count["refused"] != 3 {
			t.Errorf("a port nobody has: %v", count)
		}
		l.in(l.client, func() error { return ping(longPatience, to.Addr(), 1) })
		l.in(l.node, func() error { return ping(longPatience, to.Addr(), 1) })
	})
	static.Echo = nil
	if _, err := table.Apply(context.Background(), nft.Wish{Static: static}); err != nil {
		t.Fatal(err)
	}
	for i, address := range both("172.30.0.200") {
		if err := tryIn(l.client, func() error { return ping(patience, address, byte(3+i)) }); err == nil {
			t.Errorf("pinged %s although nobody is behind it", address)
		}
	}
	static.AnswerEcho, static.Echo = false, both("172.30.0.200")
	if _, err := table.Apply(context.Background(), nft.Wish{Static: static}); err != nil {
		t.Fatal(err)
	}
	if err := tryIn(l.client, func() error { return ping(patience, netip.MustParseAddr("172.30.0.200"), 2) }); err == nil {
		t.Error("pinged although that is switched off")
	}
}

// ping sends one echo request through a raw socket and waits for its answer.
// Another id is another connection.
func ping(limit time.Duration, to netip.Addr, id byte) error {
	family, proto, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var dst unix.Sockaddr
	if to.Is4() {
		dst = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		family, proto, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		dst = &unix.SockaddrInet6{Addr: to.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, proto)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := waitFor(fd, limit); err != nil {
		return err
	}
	packet := []byte{request, 0, 0, 0, 0, id, 0, 1}
	if to.Is4() {
		sum := ^(uint16(request)<<8 + uint16(id) + 1)
		packet[2], packet[3] = byte(sum>>8), byte(sum)
	}
	if err := unix.Sendto(fd, packet, 0, dst); err != nil {
		return err
	}
	buf := make([]byte, 256)
	for range 20 {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return fmt.Errorf("ping %s: %w", to, err)
		}
		body := buf[:n]
		if to.Is4() && n > 20 {
			body = buf[20:n]
		}
		if len(body) >= 6 && body[0] == reply && body[5] == id {
			return nil
		}
	}
	return fmt.Errorf("ping %s: no answer", to)
}
