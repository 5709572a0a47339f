package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/speaker/nft"
)

// programming counts and times what the forwarding loop does to the kernel.
type programming struct {
	latency, sync          prometheus.Histogram
	elements               prometheus.Gauge
	added, deleted, errors prometheus.Counter
}

func newProgramming() *programming {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fairlead", Subsystem: "speaker", Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "fairlead", Subsystem: "speaker", Name: name, Help: help, Buckets: buckets})
	}
	const half, twice = 0.0005, 2
	return &programming{
		latency: histogram("network_programming_duration_seconds",
			"Time from a change of a pod or a Service, as the EndpointSlice says it, until the kernel forwards by it.",
			prometheus.ExponentialBuckets(2*half, twice, 18)),
		sync: histogram("forwarding_sync_duration_seconds", "Time that a round of the forwarding loop took that changed the kernel's table or read it back.",
			prometheus.ExponentialBuckets(half/4, twice, 18)),
		elements: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "fairlead", Subsystem: "speaker", Name: "forwarding_elements", Help: "Elements in the kernel's table.",
		}),
		added:   counter("forwarding_elements_added_total", "Elements added to the kernel's table."),
		deleted: counter("forwarding_elements_deleted_total", "Elements deleted from the kernel's table."),
		errors:  counter("forwarding_errors_total", "Changes to the kernel's table that failed."),
	}
}

// observe notes a round that changed the kernel, because of what happened at the triggers.
func (p *programming) observe(began, now time.Time, triggers []time.Time) {
	p.sync.Observe(now.Sub(began).Seconds())
	for _, at := range triggers {
		p.latency.Observe(now.Sub(at).Seconds())
	}
}

// Describe names the metrics.
func (p *programming) Describe(to chan<- *prometheus.Desc) {
	for _, c := range p.all() {
		c.Describe(to)
	}
}

// Collect reads the metrics.
func (p *programming) Collect(to chan<- prometheus.Metric) {
	for _, c := range p.all() {
		c.Collect(to)
	}
}

func (p *programming) all() []prometheus.Collector {
	return []prometheus.Collector{p.latency, p.sync, p.elements, p.added, p.deleted, p.errors}
}

// measure notes what a round reached.
func (f *forwarding) measure(began time.Time, reached nft.Report) {
	if reached.Transactions > 0 || reached.ReadBack {
		f.metrics.observe(began, time.Now(), f.triggers)
	}
	f.triggers = nil
	f.metrics.elements.Set(float64(reached.Elements))
	f.metrics.added.Add(float64(reached.Added))
	f.metrics.deleted.Add(float64(reached.Deleted))
}
