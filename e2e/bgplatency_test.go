package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// routeMonitor tells when a router's kernel learnt or lost a route of the pool routed.
type routeMonitor struct {
	events chan routeEvent
}

type routeEvent struct {
	at   time.Time
	line string
}

func monitorRoutes(b *testing.B, host string) routeMonitor {
	cmd := exec.Command(labBinary, "exec", host, "--", "ip", "-4", "monitor", "route")
	cmd.Dir = checkout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
	})
	m := routeMonitor{make(chan routeEvent, 1000)}
	go m.read(out)
	return m
}

func (m routeMonitor) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		m.events <- routeEvent{time.Now(), lines.Text()}
	}
}

// until returns when a line with a beginning was seen.
func (m routeMonitor) until(b *testing.B, beginning string) time.Time {
	b.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e := <-m.events:
			if strings.HasPrefix(e.line, beginning) {
				return e.at
			}
		case <-timeout:
			b.Fatalf("no %q of the router's kernel", beginning)
		}
	}
}

// BenchmarkRouteLatency measures the time from the event by which a watcher of the API server learns that a Service has
// an address, or is gone, to the moment when the kernel of the router that runs BIRD has, or has not, the route.
func BenchmarkRouteLatency(b *testing.B) {
	ctx := b.Context()
	pool, nobody, advertisement, peer := newPool("routed", "172.30.0.192/29"), newAdvertisement("nobody"), newAdvertisement("routed"), newPeer("bird", bird)
	nobody.Spec.Peers = []string{"nobody"}
	for _, object := range []client.Object{pool, nobody, advertisement, peer} {
		if err := cluster.Create(ctx, object); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cluster.Delete(context.WithoutCancel(ctx), object) }) // what is left is seen by the next test
	}
	for _, node := range nodes {
		for s, err := session(ctx, node, "bird"); err != nil || !isUp(s); s, err = session(ctx, node, "bird") {
			if ctx.Err() != nil {
				b.Fatal(ctx.Err())
			}
		}
	}
	set, err := kubernetes.NewForConfig(clusterConfig)
	if err != nil {
		b.Fatal(err)
	}
	watcher, err := set.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{LabelSelector: "test=latency"})
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	monitor := monitorRoutes(b, bird.host)
	var announced, withdrawn []time.Duration
	for i := 0; b.Loop(); i++ {
		address := fmt.Sprintf("172.30.0.%d", 192+i%8)
		svc := newService(fmt.Sprintf("latency-%d", i), map[string]string{
			"fairlead.dev/address-pool": "routed", "fairlead.dev/loadBalancerIPs": address,
		})
		svc.Labels = map[string]string{"test": "latency"}
		if err := cluster.Create(ctx, svc); err != nil {
			b.Fatal(err)
		}
		told := untilTold(b, watcher, func(e watch.Event, s *corev1.Service) bool { return len(s.Status.LoadBalancer.Ingress) > 0 })
		announced = append(announced, monitor.until(b, address+" ").Sub(told))
		if err := cluster.Delete(ctx, svc); err != nil {
			b.Fatal(err)
		}
		told = untilTold(b, watcher, func(e watch.Event, _ *corev1.Service) bool { return e.Type == watch.Deleted })
		withdrawn = append(withdrawn, monitor.until(b, "Deleted "+address+" ").Sub(told))
	}
	for what, all := range map[string][]time.Duration{"announced": announced, "withdrawn": withdrawn} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, what+"-median-ms")
		b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, what+"-worst-ms")
	}
}

// untilTold returns when the watcher told of what is waited for.
func untilTold(b *testing.B, watcher watch.Interface, good func(watch.Event, *corev1.Service) bool) time.Time {
	b.Helper()
	for e := range watcher.ResultChan() {
		if svc, ok := e.Object.(*corev1.Service); ok && good(e, svc) {
			return time.Now()
		}
	}
	b.Fatal("the watch ended")
	return time.Time{}
}
