package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// An attempt is one request of the measuring client, on a new connection unless it is Kept.
type attempt struct {
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"`
	OK    bool          `json:"ok"`
	Kept  bool          `json:"kept,omitempty"` // a request on a connection that was open already
	Error string        `json:"error,omitempty"`
}

// An outage is what a client saw of one cut. All times are in seconds after the cut.
type outage struct {
	Host   string    `json:"host"`   // what was cut
	At     time.Time `json:"at"`     // when
	Owners []string  `json:"owners"` // the hosts the client sent its packets to, in the order in which they were first seen
	// FirstSuccess is when the first attempt that was started after the cut had its answer.
	FirstSuccess float64 `json:"firstSuccess"`
	// LastFailure is when the last attempt that failed was started; 0 if none failed. Every later one succeeded.
	LastFailure float64 `json:"lastFailure"`
	Attempts    int     `json:"attempts"` // started after the cut
	Failed      int     `json:"failed"`
	Lost        int     `json:"lost"` // connections that were open and broke
	// FailedAt is when the attempts that failed were started, in order.
	FailedAt []float64 `json:"failedAt,omitempty"`
	// Errors counts the failures, of new and of open connections, by what was said last of why.
	Errors map[string]int `json:"errors,omitempty"`
}

// measure says what attempts, in any order, say about a cut. Open connections count until pods begin to end, and their
// connections with them; the zero time is never.
func measure(host string, cut, ending time.Time, attempts []attempt) outage {
	o := outage{Host: host, At: cut, FirstSuccess: -1}
	for _, a := range attempts {
		if a.Start.Before(cut) || a.Kept && !ending.IsZero() && a.Start.After(ending) {
			continue
		}
		o.blame(a)
		if a.Kept {
			if !a.OK {
				o.Lost++
			}
			continue
		}
		o.Attempts++
		after := a.Start.Sub(cut)
		if !a.OK {
			o.Failed++
			o.FailedAt = append(o.FailedAt, after.Seconds())
			continue
		}
		if answered := (after + a.Took).Seconds(); o.FirstSuccess < 0 || answered < o.FirstSuccess {
			o.FirstSuccess = answered
		}
	}
	slices.Sort(o.FailedAt)
	if n := len(o.FailedAt); n > 0 {
		o.LastFailure = o.FailedAt[n-1]
	}
	return o
}

// blame counts why an attempt failed, if it did. What differs between attempts to the same address is in front.
func (o *outage) blame(a attempt) {
	if a.OK {
		return
	}
	if o.Errors == nil {
		o.Errors = map[string]int{}
	}
	o.Errors[a.Error[strings.LastIndex(a.Error, ": ")+1:]]++
}

// spread is the middle and the worst of several runs.
type spread struct {
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Worst: sorted[n-1]}
}

// figures are the runs of one measurement and their summary.
type figures struct {
	Address      string   `json:"address"`
	Cut          string   `json:"cut"`
	From         string   `json:"from"`
	Load         string   `json:"load"` // the machine's load averages at the end
	Runs         []outage `json:"runs"`
	FirstSuccess spread   `json:"firstSuccess"`
	LastFailure  spread   `json:"lastFailure"`
	Failed       int      `json:"failed"`
	Lost         int      `json:"lost"`
}

// summarise fills the summary in.
func (f figures) summarise() figures {
	var first, last []float64
	f.Failed, f.Lost = 0, 0
	for _, run := range f.Runs {
		first = append(first, run.FirstSuccess)
		last = append(last, run.LastFailure)
		f.Failed += run.Failed
		f.Lost += run.Lost
	}
	f.FirstSuccess, f.LastFailure = spreadOf(first), spreadOf(last)
	return f
}

// print writes the figures as a table for people.
func (f figures) print(w io.Writer) error {
	for i, run := range f.Runs {
		for _, why := range slices.Sorted(maps.Keys(run.Errors)) {
			fmt.Fprintf(w, "run %d: %d ×%s\n", i+1, run.Errors[why], why)
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tCUT\tFIRST SUCCESS\tLAST FAILURE\tFAILED\tATTEMPTS\tLOST")
	for i, run := range f.Runs {
		fmt.Fprintf(table, "%d\t%s %s\t%.2f s\t%.2f s\t%d\t%d\t%d\n",
			i+1, f.Cut, run.Host, run.FirstSuccess, run.LastFailure, run.Failed, run.Attempts, run.Lost)
	}
	fmt.Fprintf(table, "median\t\t%.2f s\t%.2f s\t\t\t\n", f.FirstSuccess.Median, f.LastFailure.Median)
	fmt.Fprintf(table, "worst\t\t%.2f s\t%.2f s\t%d\t\t%d\n", f.FirstSuccess.Worst, f.LastFailure.Worst, f.Failed, f.Lost)
	fmt.Fprintf(table, "\nfrom %s, load %s\n", f.From, f.Load)
	return table.Flush()
}
