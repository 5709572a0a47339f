package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/speaker/members"
)

// collector turns what the loops reached into metrics, when it is asked.
type collector struct {
	have func() reached

	active, services, endpoints, generation, synced, failing *prometheus.Desc
	announced, refused, members, problems                    *prometheus.Desc
	malformed, ignored, dropped                              *prometheus.Desc
	moved, contested, relayed                                *prometheus.Desc
	received, answered, limited, gratuitous, unsent          *prometheus.Desc
}

func newCollector(have func() reached) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fairlead_speaker_"+name, help, labels, nil)
	}
	return &collector{
		have:       have,
		active:     desc("forwarding_active", "1 if this speaker forwards traffic to Services, else 0."),
		services:   desc("forwarding_services", "Services in the kernel's table."),
		endpoints:  desc("forwarding_endpoints", "Endpoints in the kernel's table."),
		generation: desc("forwarding_transactions_total", "Changes made to the kernel's table."),
		synced:     desc("forwarding_last_sync_timestamp_seconds", "When the kernel's table was last known to be what it should be."),
		failing:    desc("forwarding_failing", "1 if the last change to the kernel's table failed, else 0."),
		announced:  desc("announced_addresses", "Addresses this node announces."),
		refused:    desc("refused_addresses", "Addresses this node should announce but must not take.", "reason"),
		members:    desc("members", "Speakers this one knows, itself included.", "state"),
		problems:   desc("problems", "What this node would do but cannot."),
		malformed:  desc("l2_malformed_frames_total", "Frames that are no valid ARP or NDP.", "link"),
		ignored:    desc("l2_ignored_frames_total", "Valid frames that are not for this speaker to act on.", "link"),
		dropped:    desc("l2_dropped_frames_total", "Frames the kernel dropped because they came too fast.", "link"),
		moved:      desc("address_moves_total", "Addresses this node took, gave away, and refused to take.", "direction"),
		contested:  desc("contested_addresses", "Addresses this node announces although another host uses them, too."),
		relayed:    desc("relayed_addresses", "Addresses whose older connections live on through the node that had them before."),
		received:   desc("l2_requests_received_total", "ARP requests and neighbour solicitations for announced addresses.", "link"),
		answered:   desc("l2_requests_answered_total", "Those that were answered.", "link"),
		limited:    desc("l2_requests_limited_total", "Those that were not, because their sender asks too often.", "link"),
		gratuitous: desc("l2_gratuitous_sent_total", "Announcements sent without being asked.", "link"),
		unsent:     desc("l2_send_failures_total", "Frames the kernel did not take.", "link"),
	}
}

// Describe names the metrics.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.active, c.services, c.endpoints, c.generation, c.synced, c.failing, c.announced, c.refused,
		c.members, c.problems, c.malformed, c.ignored, c.dropped, c.moved, c.contested, c.relayed,
		c.received, c.answered, c.limited, c.gratuitous, c.unsent,
	} {
		to <- d
	}
}

// Collect reads the loops' states.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	have := c.have()
	f, a := have.forward, have.announce
	status := report(have)
	gauge(c.problems, float64(status.Counts.Problems))
	if f != nil {
		gauge(c.active, truth(f.Active))
		gauge(c.failing, truth(f.LastError != ""))
		gauge(c.services, float64(f.Services))
		gauge(c.endpoints, float64(f.Endpoints))
		to <- prometheus.MustNewConstMetric(c.generation, prometheus.CounterValue, float64(f.Generation))
		if !f.LastSync.IsZero() {
			gauge(c.synced, float64(f.LastSync.UnixMilli())/1000)
		}
	}
	if a == nil {
		return
	}
	gauge(c.announced, float64(status.Counts.Addresses))
	byReason := map[string]int{}
	for _, no := range a.Refused {
		byReason[no.Reason]++
	}
	for reason, count := range byReason {
		gauge(c.refused, float64(count), reason)
	}
	byState := map[members.State]int{}
	for _, m := range a.Members {
		byState[m.State]++
	}
	for _, state := range []members.State{members.Alive, members.Left, members.Dead} {
		gauge(c.members, float64(byState[state]), state.String())
	}
	c.collectL2(to, a)
}

func (c *collector) collectL2(to chan<- prometheus.Metric, a *announceState) {
	counter := func(d *prometheus.Desc, value uint64, label string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), label)
	}
	to <- prometheus.MustNewConstMetric(c.contested, prometheus.GaugeValue, float64(len(a.Contested)))
	to <- prometheus.MustNewConstMetric(c.relayed, prometheus.GaugeValue, float64(a.Relays))
	counter(c.moved, a.Moves.Taken, "taken")
	counter(c.moved, a.Moves.Given, "given")
	counter(c.moved, a.Moves.Refused, "refused")
	for _, link := range a.Wire {
		counter(c.malformed, link.Malformed, link.Link)
		counter(c.ignored, link.Ignored, link.Link)
		counter(c.dropped, link.Dropped, link.Link)
		counter(c.received, link.Received, link.Link)
		counter(c.answered, link.Answered, link.Link)
		counter(c.limited, link.Limited, link.Link)
		counter(c.gratuitous, link.Gratuitous, link.Link)
		counter(c.unsent, link.Failed, link.Link)
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// serveMetrics serves /metrics, and /livez and /readyz for the kubelet, until ctx ends. It
// needs no API server: a speaker that waits for one is alive.
func serveMetrics(ctx context.Context, address string, profiling bool, have func() reached, more ...prometheus.Collector) error {
	if address == "0" {
		return nil
	}
	for _, c := range append(more, newCollector(have), newPeerCollector(func() *peerState { return have().peers })) {
		if err := metrics.Registry.Register(c); err != nil {
			return fmt.Errorf("register the metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if r := have(); r.forward == nil || r.announce == nil {
			http.Error(w, "the speaker has not come round yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok"))
	})
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	}
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the metrics on %s: %w", address, err)
	}
	return nil
}
