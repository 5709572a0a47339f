package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/kubernetes"
)

// cost is what a stretch of work took of the cluster: CPU seconds by program, and requests by verb and resource.
type cost struct {
	cpu      map[string]float64
	requests map[string]float64
}

// meter reads how much everything in the lab has used until now.
func meter(b *testing.B) cost {
	b.Helper()
	requests, err := countRequests(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return cost{cpuSeconds(b), requests}
}

// since returns what was used after an earlier reading.
func (c cost) since(before cost) cost {
	return cost{subtract(c.cpu, before.cpu), subtract(c.requests, before.requests)}
}

func subtract(a, b map[string]float64) map[string]float64 {
	left := map[string]float64{}
	for key := range a {
		left[key] = a[key] - b[key]
	}
	return left
}

// String lists what was used most, first.
func (c cost) String() string {
	return "CPU seconds: " + most(c.cpu, 0.5, 8) + "\n        requests: " + most(c.requests, 20, 12)
}

func most(of map[string]float64, least float64, n int) string {
	keys := slices.Collect(maps.Keys(of))
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), strings.Compare(a, b)) })
	var words []string
	for _, key := range keys[:min(len(keys), n)] {
		if of[key] >= least {
			words = append(words, fmt.Sprintf("%s %.4g", key, of[key]))
		}
	}
	return strings.Join(words, ", ")
}

// countRequests asks the API server how many requests it has answered, by verb and resource.
func countRequests(ctx context.Context) (map[string]float64, error) {
	clientset, err := kubernetes.NewForConfig(clusterConfig)
	if err != nil {
		return nil, err
	}
	stream, err := clientset.Discovery().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	defer stream.Close()
	counts := map[string]float64{}
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		labels, found := strings.CutPrefix(scanner.Text(), "apiserver_request_total{")
		labels, number, ok := strings.Cut(labels, "} ")
		count, err := strconv.ParseFloat(number, 64)
		if !found || !ok || err != nil {
			continue
		}
		what := label(labels, "verb") + " " + label(labels, "resource")
		if sub := label(labels, "subresource"); sub != "" {
			what += "/" + sub
		}
		if code := label(labels, "code"); !strings.HasPrefix(code, "2") {
			what += " (" + code + ")"
		}
		counts[what] += count
	}
	return counts, scanner.Err()
}

func label(labels, name string) string {
	_, value, _ := strings.Cut(","+labels, ","+name+`="`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// cpuSeconds returns how long each program of the lab has computed.
func cpuSeconds(b *testing.B) map[string]float64 {
	b.Helper()
	var control syscall.Stat_t
	if err := syscall.Stat(filepath.Join(checkout, ".lab", "ns", "control.mnt"), &control); err != nil {
		b.Fatal(err)
	}
	pods := "/" + labName() + "/"
	used := map[string]float64{}
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		var mnt syscall.Stat_t
		cgroup, _ := os.ReadFile(filepath.Join(folder, "cgroup"))
		err := syscall.Stat(filepath.Join(folder, "ns", "mnt"), &mnt)
		if !strings.Contains(string(cgroup), pods) && (err != nil || mnt.Ino != control.Ino) {
			continue
		}
		if name, seconds, ok := cpuOf(folder); ok {
			used[name] += seconds
		}
	}
	used["test"] = selfSeconds()
	return used
}

// cpuOf reads one process: proc(5), /proc/PID/stat.
func cpuOf(folder string) (name string, seconds float64, ok bool) {
	const ticks = 100 // a second: USER_HZ
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	_, rest, found := strings.Cut(string(stat), "(")
	name, rest, closed := strings.Cut(rest, ") ")
	fields := strings.Fields(rest)
	if err != nil || !found || !closed || len(fields) < 13 {
		return "", 0, false
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return name, (user + system) / ticks, true
}

func selfSeconds() float64 {
	_, seconds, _ := cpuOf("/proc/self")
	return seconds
}

func labName() string {
	if name := os.Getenv("FAIRLEAD_LAB"); name != "" {
		return "fairlead-" + name
	}
	return "fairlead"
}
