package l2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// TestFloodForOthersCostsNothing floods with requests for an address that is not ours,
// while a client asks for one that is.
func TestFloodForOthersCostsNothing(t *testing.T) {
	for name, vip := range map[string]netip.Addr{"ARP": vip4, "NDP": vip6} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			client, node := l.host("client", 1), l.host("node", 11)
			st := node.responder()
			st.r.Timing.Series = nil
			st.apply(vip)
			tap := client.tap(protocolOf(vip))
			foreign, err := tap.proto.probe(vip.Next(), mac(client.mac()))
			must(t, err)
			mine, err := tap.proto.probe(vip, mac(client.mac()))
			must(t, err)
			var waits []time.Duration
			for range 20 {
				for range 500 {
					tap.send(foreign)
				}
				start := time.Now()
				tap.send(mine)
				if _, ok := tap.next(vip, patience); !ok {
					t.Fatal("no answer")
				}
				waits = append(waits, time.Since(start))
			}
			slices.Sort(waits)
			t.Logf("answered under a flood after %s in the median, %s at most", waits[len(waits)/2], waits[len(waits)-1])
			asked := uint64(len(waits))
			want := []LinkCounters{{Link: "eth0", Counters: Counters{Received: asked}}}
			// An answer is counted a moment after it was sent.
			if diff := cmp.Diff(want, st.r.Report().Links, cmpopts.IgnoreFields(Counters{}, "Answered")); diff != "" {
				t.Errorf("frames for others came through (-want +got)\n%s", diff)
			}
		})
	}
}

// TestFloodForOursDoesNotDelayOthers floods with 50,000 requests a second for our own
// address, while another client asks for it in peace.
func TestFloodForOursDoesNotDelayOthers(t *testing.T) {
	for name, vip := range map[string]netip.Addr{"ARP": vip4, "NDP": vip6} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			attacker, client, node := l.host("attacker", 1), l.host("client", 2), l.host("node", 11)
			st := node.responder()
			st.r.Timing.Series = nil
			st.apply(vip)
			source, calm := attacker.tap(protocolOf(vip)), client.tap(protocolOf(vip))
			stop, sent := make(chan struct{}), make(chan int)
			go func() { sent <- source.flood(source.question(vip), 50, time.Millisecond, false, stop) }()
			mine := calm.question(vip)
			var waits []time.Duration
			begin := time.Now()
			for range 100 {
				start := time.Now()
				calm.send(mine)
				if _, ok := calm.next(vip, patience); !ok {
					t.Error("no answer under the flood")
					break
				}
				waits = append(waits, time.Since(start))
			}
			took := time.Since(begin)
			close(stop)
			rate := float64(<-sent) / took.Seconds()
			slices.Sort(waits)
			t.Logf("at %.0f requests a second: answered after %s in the median, %s at most; %+v",
				rate, waits[len(waits)/2], waits[len(waits)-1], st.r.Report().Links)
			if median := waits[len(waits)/2]; median > 5*time.Millisecond {
				t.Errorf("the median answer took %s", median)
			}
		})
	}
}

func TestOneSenderIsLimited(t *testing.T) {
	l := newLAN(t)
	client, other, node := l.host("client", 1), l.host("other", 2), l.host("node", 11)
	st := node.responder()
	st.r.Timing.Answers, st.r.Timing.Series = 20, nil
	st.apply(vip4)
	tap := client.tap(arpProtocol{})
	probe, err := tap.proto.probe(vip4, mac(client.mac()))
	must(t, err)
	for range 200 {
		tap.send(probe)
	}
	other.resolves(vip4, node.mac())
	st.await("all requests", func() bool { return st.state().Counters.Received >= 201 })
	c := st.state().Counters
	if c.Answered+c.Limited != c.Received || c.Limited < 140 {
		t.Errorf("want most of 200 requests of one sender unanswered, have %+v", c)
	}
}

// BenchmarkFlood has 50,000 requests a second arrive for an address, for a second each
// time: with nobody to answer, and with a responder, beside a responder in peace. The
// difference of "cores" between the first two is what the responder uses; "ms/answer" and
// "ms/worst" are what another client waits, in the median and at most.
func BenchmarkFlood(b *testing.B) {
	for name, vip := range map[string]netip.Addr{"ARP": vip4, "NDP": vip6} {
		for _, c := range []struct {
			name          string
			answers, many bool
		}{{"nobody answers", false, true}, {"flood", true, true}, {"peace", true, false}} {
			b.Run(name+"/"+c.name, func(b *testing.B) { benchmarkFlood(b, vip, c.answers, c.many) })
		}
	}
}

func benchmarkFlood(b *testing.B, vip netip.Addr, answers, many bool) {
	l := newLAN(b)
	attacker, client, node := l.host("attacker", 1), l.host("client", 2), l.host("node", 11)
	if answers {
		st := node.responder()
		st.r.Timing.Series = nil
		st.apply(vip)
	}
	source, calm := attacker.tap(protocolOf(vip)), client.tap(protocolOf(vip))
	var waits []time.Duration
	var before, after unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	begin, frames := time.Now(), 0
	for b.Loop() {
		stop, sent := make(chan struct{}), make(chan int, 1)
		if many {
			go func() { sent <- source.flood(source.question(vip), 50, time.Millisecond, true, stop) }()
		} else {
			sent <- 0
		}
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			start := time.Now()
			calm.send(calm.question(vip))
			_, _ = calm.next(vip, 100*time.Millisecond)
			waits = append(waits, time.Since(start))
			<-time.After(10 * time.Millisecond)
		}
		close(stop)
		frames += <-sent
	}
	took := time.Since(begin).Seconds()
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	b.ReportMetric(float64(frames)/took, "requests/s")
	b.ReportMetric((seconds(after.Utime, after.Stime)-seconds(before.Utime, before.Stime))/took, "cores")
	if answers {
		slices.Sort(waits)
		b.ReportMetric(waits[len(waits)/2].Seconds()*1000, "ms/answer")
		b.ReportMetric(waits[len(waits)-1].Seconds()*1000, "ms/worst")
	}
}

func seconds(user, system unix.Timeval) float64 {
	return float64(user.Nano()+system.Nano()) / 1e9
}
