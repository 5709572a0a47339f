package forward

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/nft"
)

// TestChurn changes a Service and its neighbours all the time, and restarts
// the table's owner, while a client connects: no connection may fail.
func TestChurn(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	var eps []string
	for _, a := range hereAddrs {
		for _, p := range ports {
			eps = append(eps, fmt.Sprintf("%s:%d", a, p))
		}
	}
	services := map[string]nft.Service{"a/b": simple(nft.TCP, 80, nil, eps...)}
	l.apply(table, services)
	var stop atomic.Bool
	type tally struct {
		n    int
		fail map[string]int
	}
	result := make(chan tally)
	for _, addr := range both(vip) {
		go func() {
			done := tally{fail: map[string]int{}}
			_ = tryIn(l.pod, func() error {
				for !stop.Load() {
					if out := dialOnce(longPatience, netip.Addr{}, netip.AddrPortFrom(addr, 80).String()); out.failure != "" {
						done.fail[out.failure]++
					}
					done.n++
				}
				return nil
			})
			result <- done
		}()
	}
	const rounds = 600
	for i := range rounds {
		k := i*7%len(eps) + 1
		services["a/b"] = simple(nft.TCP, 80, nil, eps[:k]...)
		l.apply(table, map[string]nft.Service{
			"a/b":                         services["a/b"],
			fmt.Sprintf("x/y-%d", i%50):   neighbour(i % 50),
			fmt.Sprintf("x/y-%d", i*3%50): {},
		})
		if i%100 == 99 {
			table = l.table(nil)
			if _, err := table.Apply(context.Background(), nft.Wish{Static: l.static(), Changed: services, Full: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	for range both(vip) {
		got := <-result
		t.Logf("%d connections during %d changes", got.n, rounds)
		if len(got.fail) > 0 {
			t.Errorf("of %d connections failed %v", got.n, got.fail)
		}
	}
}

// neighbour is another Service, with a number of endpoints of its own.
func neighbour(i int) nft.Service {
	s := nft.Service{Targets: []nft.Target{{}}}
	for e := range i + 1 {
		s.Targets[0].Endpoints = append(s.Targets[0].Endpoints, netip.MustParseAddrPort(fmt.Sprintf("10.244.77.%d:80", e+1)))
	}
	s.Frontends = []nft.Frontend{{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(100 + i)}), Proto: nft.TCP, Port: 80, Kind: nft.Cluster, Target: 0, Short: nft.None}}
	return s
}

// TestSCTP sends the first packet of an association to a Service. There need
// be no SCTP sockets for it to arrive with the endpoint's port.
func TestSCTP(t *testing.T) {
	l := newLab(t)
	table := l.fresh()
	l.apply(table, map[string]nft.Service{"a/b": simple(nft.SCTP, 80, nil, "10.244.1.1:8080")})
	ear := -1
	l.in(l.here, func() error {
		var err error
		ear, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_SCTP)
		return err
	})
	defer unix.Close(ear)
	l.in(l.pod, func() error { return sendInit(netip.MustParseAddrPort(vip + ":80")) })
	if !hears(longPatience, ear, 8080) {
		t.Error("the association's first packet did not arrive at the endpoint's port")
	}
}

// sendInit sends an SCTP INIT chunk (RFC 9260 section 3.3.2).
func sendInit(to netip.AddrPort) error {
	const header, chunk = 12, 20
	b := make([]byte, header+chunk)
	binary.BigEndian.PutUint16(b[0:], 5000)
	binary.BigEndian.PutUint16(b[2:], to.Port())
	b[header] = 1
	binary.BigEndian.PutUint16(b[header+2:], chunk)
	binary.BigEndian.PutUint32(b[header+4:], 1)
	binary.BigEndian.PutUint32(b[header+8:], 65536)
	binary.BigEndian.PutUint16(b[header+12:], 1)
	binary.BigEndian.PutUint16(b[header+14:], 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_SCTP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
}
