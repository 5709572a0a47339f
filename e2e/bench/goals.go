package main

import (
	"fmt"
	"strings"
	"time"
)

func (c cpu) kernel() time.Duration { return c.Kernel }

func (b burst) total() time.Duration { return b.cpu.total() }

// walls are the times of the cold starts, colds something else of them, in seconds.
func (f proxyFigures) walls() samples {
	var out samples
	for _, c := range f.cold {
		out = append(out, c.Wall.Seconds())
	}
	return out
}

func (f proxyFigures) colds(of func(cpu) time.Duration) samples {
	var out samples
	for _, c := range f.cold {
		out = append(out, of(c.CPU).Seconds())
	}
	return out
}

func (f proxyFigures) bursts(of func(burst) time.Duration) samples {
	var out samples
	for _, b := range f.burst {
		out = append(out, of(b).Seconds())
	}
	return out
}

// goals are the rows that say what Fairlead wants to be, at every size, although each goal is for one.
func goals() []row {
	return []row{
		{"measured on, at a load average of (beginning, end)", func(f figures) string {
			return f.on + ", " + strings.Join(f.load, ", ")
		}},
		{"cold start: kube-proxy / Fairlead (at 10,000: at least 20)", func(f figures) string {
			return pairwise(f.kubeProxy.walls(), f.fairlead.walls()).spread(ratio)
		}},
		{"cold start: Fairlead's kernel time (10,000: under 1 s; 30,000: under 3 s)", func(f figures) string {
			return f.fairlead.colds(cpu.kernel).spread(duration)
		}},
		{"one change in the kernel, p50 (at most 100 µs, flat within 2)", func(f figures) string { return duration(f.apply.median()) }},
		{"one change from the event to the kernel, p50 and p99 (at 10,000: 5 ms and 20 ms)", func(f figures) string {
			return p50p99(f.fairlead.event)
		}},
		{"1,000 changes, processor time: Fairlead / kube-proxy (at most 0.25)", func(f figures) string {
			return f.fairlead.bursts(burst.total).over(f.kubeProxy.bursts(burst.total)).spread(ratio)
		}},
		{"first packet above one rule: Fairlead / kube-proxy (at 10,000: at most 65 %)", func(f figures) string { return aboveOneRule(f.traffic.first) }},
		{"established packet above one rule: Fairlead / kube-proxy (at 10,000: at most 30 %)", func(f figures) string {
			return aboveOneRule(f.traffic.established)
		}},
		{"new connections, ClusterIP: Fairlead / kube-proxy (never below 1; at 10,000: at least 1.1)", connectionRatio(clusterIP)},
		{"new connections, NodePort: Fairlead / kube-proxy (the same)", connectionRatio(nodePort)},
		{"new connections, LoadBalancer: Fairlead / kube-proxy (the same)", connectionRatio(balancer)},
		{"resident memory: Fairlead / kube-proxy (at 10,000: at most 60 %)", func(f figures) string {
			return percent(f.fairlead.resident / f.kubeProxy.resident)
		}},
	}
}

func connectionRatio(way string) func(figures) string {
	return func(f figures) string {
		return f.traffic.connections["fairlead/"+way].over(f.traffic.connections["kube-proxy/"+way]).spread(ratio)
	}
}

// pairwise divides; where one was measured more seldom, its last figure stands for the others.
func pairwise(a, b samples) samples {
	for len(a) > 0 && len(a) < len(b) {
		a = append(a, a[len(a)-1])
	}
	return a.over(b)
}

// aboveOneRule compares what a packet costs more than through a single rule: the ratio of the medians, with both in time.
func aboveOneRule(took map[string]samples) string {
	one := took["one/"+clusterIP]
	fairlead := took["fairlead/"+clusterIP].minus(one)
	kubeProxy := took["kube-proxy/"+clusterIP].minus(one)
	if kubeProxy.median() <= 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s of %s)", percent(fairlead.median()/kubeProxy.median()), duration(fairlead.median()), duration(kubeProxy.median()))
}
