//go:build interop

package bfd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

// TestUnderLoad keeps every CPU busy, half of it inside this process with goroutines that
// allocate, and counts downs on both sides. FAIRLEAD_BFD_MINUTES and _MS lengthen it; FAIRLEAD_BFD_HOGS=0 leaves the load to
// whatever else runs on the machine.
func TestUnderLoad(t *testing.T) {
	length, interval := 10*time.Second, 300
	if testing.Short() {
		length = time.Second
	}
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_BFD_MINUTES")); err == nil {
		length = time.Duration(n) * time.Minute
	}
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_BFD_MS")); err == nil {
		interval = n
	}
	router := routertest.NewRouter(t, "frr")
	router.Link("r1", addresses)
	ms := strconv.Itoa(interval)
	router.StartFRR("bfd\n peer 10.9.0.1 interface r1\n  receive-interval " + ms + "\n  transmit-interval " + ms + "\n")
	room := New(context.Background(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(room.Close)
	room.Apply([]Session{{Peer: netip.MustParseAddr("10.9.0.2"), Profile: milliseconds(interval)}})
	untilUp(t, room)
	untilFRR(t, router, "10.9.0.1", "up")
	router.Renice("bfdd", -20) // it stands for another machine, which is not loaded
	stop := make(chan struct{})
	defer close(stop)
	hogs := runtime.NumCPU()
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_BFD_HOGS")); err == nil {
		hogs = n
	}
	for range hogs {
		go hog(stop)
		router.Start("sh", "-c", "while :; do :; done")
	}
	gaps := arrivals(t, length)
	steady(t, room, time.Millisecond)
	if p := frrPeers(router)["10.9.0.1"]; p.SessionDown != 0 || p.Status != "up" {
		t.Errorf("FRR: %s after %d downs, want up after 0", p.Status, p.SessionDown)
	}
	slices.Sort(gaps)
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%d ms x 3 for %s at load %s: gaps between our packets p50 %s, p99 %s, max %s; down 0 times",
		interval, length, load[:14], gaps[len(gaps)/2], gaps[len(gaps)*99/100], gaps[len(gaps)-1])
}

func hog(stop chan struct{}) {
	var keep [64][]byte
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
			keep[i%64] = make([]byte, 4096)
		}
	}
}

// arrivals returns the gaps between the BFD packets this node sends, by the kernel's
// clock, over the given time.
func arrivals(t *testing.T, length time.Duration) []time.Duration {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	link, err := net.InterfaceByName("r1")
	if err != nil {
		t.Fatal(err)
	}
	timeout := unix.NsecToTimeval(int64(100 * time.Millisecond))
	for _, err := range []error{
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var gaps []time.Duration
	var last time.Time
	buffer, oob := make([]byte, 128), make([]byte, 128)
	for end := time.Now().Add(length); time.Now().Before(end); {
		_, n, _, from, err := unix.Recvmsg(fd, buffer, oob, 0)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || link.Pkttype != unix.PACKET_OUTGOING || buffer[9] != unix.IPPROTO_UDP {
			continue
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		for _, m := range messages {
			in := incoming{}
			in.ancillary(m)
			if !last.IsZero() {
				gaps = append(gaps, in.arrival.Sub(last))
			}
			last = in.arrival
		}
	}
	return gaps
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
