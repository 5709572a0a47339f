package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The lines between which the page is written anew.
const (
	pageBegins = "<!-- measured: begin -->\n"
	pageEnds   = "<!-- measured: end -->\n"
)

// publish prints what was measured so far, or writes it into the page, which keeps what it has of other sizes.
func (b *bench) publish() error {
	if b.page == "" {
		fmt.Print(b.text())
		return nil
	}
	old, err := os.ReadFile(b.page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	before, rest, begins := strings.Cut(string(old), pageBegins)
	_, after, ends := strings.Cut(rest, pageEnds)
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %q and %q", b.page, pageBegins, pageEnds)
	}
	b.before = readTables(strings.TrimSuffix(rest, after))
	const readable = 0o644
	if err := os.WriteFile(b.page, []byte(before+pageBegins+"\n"+b.text()+"\n"+pageEnds+after), readable); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

func (b *bench) text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Linux %s, %d processors.\n", release(), runtime.NumCPU())
	b.table(&out, goalsTitle, goals())
	b.table(&out, "Cold start, memory", startRows())
	b.table(&out, "Changes of endpoints", changeRows())
	b.table(&out, "Packets and connections", packetRows())
	return out.String()
}

// goalsTitle is of the first table.
const goalsTitle = "Against the goals"

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// row is a line of a table: one cell for each size.
type row struct {
	name string
	cell func(figures) string
}

func (b *bench) table(out *strings.Builder, title string, rows []row) {
	columns := b.columns()
	fmt.Fprintf(out, "\n### %s\n\n| Services | %s |\n|---|%s\n", title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, r := range rows {
		fmt.Fprintf(out, "| %s |", r.name)
		for _, c := range columns {
			fmt.Fprintf(out, " %s |", b.cell(title, c, r))
		}
		out.WriteString("\n")
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// both makes a row of each program's figures.
func both(name string, of func(proxyFigures) string) []row {
	return []row{
		{name + ", kube-proxy", func(f figures) string { return of(f.kubeProxy) }},
		{name + ", Fairlead", func(f figures) string { return of(f.fairlead) }},
	}
}

func startRows() []row {
	return slices.Concat(
		both("cold start: last rule in the kernel", func(f proxyFigures) string { return f.walls().spread(duration) }),
		both("cold start: processor time", func(f proxyFigures) string { return f.colds(cpu.total).spread(duration) }),
		both("cold start: of it in the kernel", func(f proxyFigures) string { return f.colds(cpu.kernel).spread(duration) }),
		both("process memory (resident), after all changes", func(f proxyFigures) string { return mebibytes(f.later) }),
		both("process memory (resident)", func(f proxyFigures) string { return mebibytes(f.resident) }),
		both("process memory (anonymous part)", func(f proxyFigures) string { return mebibytes(f.anonymous) }),
		both("kernel memory of the tables", func(f proxyFigures) string { return mebibytes(f.tables) }),
	)
}

func changeRows() []row {
	return slices.Concat(
		[]row{{"one change in the kernel alone, Fairlead: p50, p99", func(f figures) string { return p50p99(f.apply) }}},
		both("one change from the API write to the kernel: p50, p99", func(f proxyFigures) string { return p50p99(f.write) }),
		both("one change from a watcher's event to the kernel: p50, p99", func(f proxyFigures) string { return p50p99(f.event) }),
		both("one change: processor time", func(f proxyFigures) string { return f.changeCPU.spread(duration) }),
		both("1,000 changes: time to write them", func(f proxyFigures) string {
			return f.bursts(func(b burst) time.Duration { return b.writing }).spread(duration)
		}),
		both("1,000 changes: in the kernel after the last write", func(f proxyFigures) string {
			return f.bursts(func(b burst) time.Duration { return b.last }).spread(duration)
		}),
		both("1,000 changes: processor time", func(f proxyFigures) string { return f.bursts(burst.total).spread(duration) }),
	)
}

func p50p99(s samples) string { return duration(s.median()) + ", " + duration(s.quantile(0.99)) }

func packetRows() []row {
	var rows []row
	for _, w := range []string{"bare/" + straight, "kube-proxy/" + straight, "fairlead/" + straight, "one/" + clusterIP,
		"kube-proxy/" + clusterIP, "fairlead/" + clusterIP, "kube-proxy/" + nodePort, "fairlead/" + nodePort, "kube-proxy/" + balancer, "fairlead/" + balancer} {
		rows = append(rows,
			row{"new connections a second of the client's processor, " + spelled(w), func(f figures) string { return f.traffic.connections[w].spread(digits) }},
			row{"new connections a second of the clock, " + spelled(w), func(f figures) string { return f.traffic.elapsed[w].spread(digits) }})
	}
	for _, w := range []string{"bare/" + straight, "one/" + clusterIP, "kube-proxy/" + clusterIP, "fairlead/" + clusterIP} {
		rows = append(rows,
			row{"connect: p50, p99, " + spelled(w), func(f figures) string { return medians(f.traffic.connectP50[w], f.traffic.connectP99[w]) }},
			row{"first packet: p50, p99, " + spelled(w), func(f figures) string { return medians(f.traffic.first[w], f.traffic.firstP99[w]) }},
			row{"established packet: p50, p99, " + spelled(w), func(f figures) string { return medians(f.traffic.established[w], f.traffic.estP99[w]) }})
	}
	return rows
}

// medians prints the median of each.
func medians(p50, p99 samples) string {
	return duration(p50.median()) + ", " + duration(p99.median())
}

// spelled says a key of traffic in words.
func spelled(key string) string {
	side, way, _ := strings.Cut(key, "/")
	return map[string]string{"bare": "no rules", "one": "one rule", "kube-proxy": "kube-proxy", "fairlead": "Fairlead"}[side] + ", " + way
}
