package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// samples are measurements of one thing, in seconds or a number.
type samples []float64

// quantile of 0.5 is the median. None have 0.
func (s samples) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s samples) median() float64 { return s.quantile(0.5) }

func (s samples) sum() float64 {
	var sum float64
	for _, x := range s {
		sum += x
	}
	return sum
}

// over divides pair by pair: what was measured at about the same time under the same load.
func (s samples) over(other samples) samples {
	var out samples
	for i := range min(len(s), len(other)) {
		if other[i] != 0 {
			out = append(out, s[i]/other[i])
		}
	}
	return out
}

// minus subtracts pair by pair.
func (s samples) minus(other samples) samples {
	var out samples
	for i := range min(len(s), len(other)) {
		out = append(out, s[i]-other[i])
	}
	return out
}

// spread prints the median with the 10th and the 90th of a hundred.
func (s samples) spread(format func(float64) string) string {
	if len(s) == 0 {
		return "-"
	}
	if len(s) == 1 {
		return format(s[0])
	}
	return fmt.Sprintf("%s (%s–%s)", format(s.median()), format(s.quantile(0.1)), format(s.quantile(0.9)))
}

// duration prints seconds with three digits.
func duration(s float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}} {
		if s >= unit.size || unit.name == "µs" {
			return digits(s/unit.size) + " " + unit.name
		}
	}
	return ""
}

func ratio(x float64) string { return digits(x) }

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

func mebibytes(x float64) string { return digits(x/(1<<20)) + " MiB" }

// digits prints a number with about three of them.
func digits(x float64) string {
	abs := cmp.Or(max(x, -x), 1)
	switch {
	case abs >= 100:
		return fmt.Sprintf("%.0f", x)
	case abs >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// load is the machine's load average over a minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
