package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// metrics is what the controller counts.
type metrics struct {
	allocations *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	wait        prometheus.Histogram
	pass        prometheus.Histogram
	pools       *poolCollector
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_allocations_total",
			Help: "Times a Service's addresses were set or changed, by reason.",
		}, []string{"reason"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_refusals_total",
			Help: "Times a Service was told that it does not get what it asks for, by reason.",
		}, []string{"reason"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fairlead_allocation_wait_seconds",
			Help:    "Time from the creation of a Service to its first address.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800},
		}),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fairlead_decision_duration_seconds",
			Help:    "Time to read the world and decide about all Services once.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		pools: &poolCollector{
			size:    prometheus.NewDesc("fairlead_pool_addresses", "Addresses a pool gives in all.", []string{"pool", "family"}, nil),
			used:    prometheus.NewDesc("fairlead_pool_addresses_used", "Addresses of a pool that Services hold.", []string{"pool", "family"}, nil),
			waiting: prometheus.NewDesc("fairlead_services_waiting", "Services that do not have what they ask for, by reason.", []string{"reason"}, nil),
		},
	}
	registry.MustRegister(m.allocations, m.refusals, m.wait, m.pass, m.pools)
	return m
}

// observe takes note of one decision.
func (m *metrics) observe(w world, o outcome, took time.Duration) {
	m.pass.Observe(took.Seconds())
	waiting := map[string]int{}
	for i, g := range o.grants {
		if w.services[i].role == ours && !g.OK {
			waiting[g.Reason]++
		}
	}
	m.pools.latest.Store(&poolNumbers{w.config, o.usage, waiting})
}

// count takes note of one change that was written.
func (m *metrics) count(change serviceChange, now time.Time) {
	switch {
	case change.ingress != nil && len(*change.ingress) > 0:
		m.allocations.WithLabelValues(change.reason).Inc()
		if change.first {
			m.wait.Observe(max(0, now.Sub(change.service.CreationTimestamp.Time).Seconds()))
		}
	case change.refused:
		m.refusals.WithLabelValues(change.reason).Inc()
	}
}

// poolNumbers are what the last decision left.
type poolNumbers struct {
	config  config.Config
	usage   []ipam.Usage
	waiting map[string]int
}

// poolCollector shows the numbers of the last decision. Pools that are gone have none.
type poolCollector struct {
	size, used, waiting *prometheus.Desc
	latest              atomic.Pointer[poolNumbers]
}

// Describe sends the descriptions of all metrics.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.size, c.used, c.waiting} {
		ch <- d
	}
}

// Collect sends the metrics.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	numbers := c.latest.Load()
	if numbers == nil {
		return
	}
	for i, pool := range numbers.config.Pools {
		for _, family := range []config.Family{config.IPv4, config.IPv6} {
			ch <- prometheus.MustNewConstMetric(c.size, prometheus.GaugeValue, float64(pool.Size(family)), pool.Name, family.String())
			ch <- prometheus.MustNewConstMetric(c.used, prometheus.GaugeValue, float64(numbers.usage[i].Assigned[family]), pool.Name, family.String())
		}
	}
	for reason, n := range numbers.waiting {
		ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(n), reason)
	}
}
