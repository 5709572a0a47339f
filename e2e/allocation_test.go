package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var benchServices = flag.Int("services", 500, "Services that BenchmarkAllocation creates")

// benchNamespace returns the namespace of what one measurement makes, so that it can be deleted at once. Each has a name of
// its own: in a namespace made again soon after it was deleted every creation costs the API server one request more.
func benchNamespace(class string) string {
	if class == "" {
		return "allocation-controller"
	}
	return "allocation-bare"
}

// bareClass is a loadBalancerClass that the controller leaves alone.
const bareClass = "bare.example/client"

// clientsAtOnce is how many requests the benchmark has under way: of creations, and of the bare client's patches.
const clientsAtOnce = 16

// BenchmarkAllocation creates many Services at once on the lab and measures
// how fast they get their addresses: from a bare client that does nothing but
// patch the status of each Service that it made, which is the API server's own
// limit, and from the controller. Both do everything beside the same speakers
// and the same idle controller; who comes first alternates, and what was made is
// deleted in between: news that the controller held back would burden the other.
// With -benchtime 4x the figures are of four pairs, the least and the greatest
// share beside the middle one.
//
//	go test ./e2e -run '^$' -bench Allocation -benchtime 1x -services 5000
func BenchmarkAllocation(b *testing.B) {
	pool := newPool("allocation", "10.200.0.0/16")
	off := false
	pool.Spec.AutoAssign = &off
	if err := client.IgnoreAlreadyExists(cluster.Create(b.Context(), pool)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cluster.Delete(context.Background(), pool) })
	for _, left := range []string{benchNamespace(""), benchNamespace(bareClass)} { // by a run that was interrupted
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: left}}
		if cluster.Get(b.Context(), client.ObjectKeyFromObject(namespace), namespace) == nil {
			deleteNamespace(b, namespace)
		}
	}
	var rates, limits, shares []float64
	for b.Loop() {
		var rate, limit float64
		if len(rates)%2 == 0 {
			limit, rate = bare(b), measureAllocation(b, "", nil)
		} else {
			rate, limit = measureAllocation(b, "", nil), bare(b)
		}
		rates, limits, shares = append(rates, rate), append(limits, limit), append(shares, 100*rate/limit)
		b.Logf("%.1f addresses a second, %.1f by the bare client: %.0f %%", rate, limit, 100*rate/limit)
	}
	b.ReportMetric(median(rates), "addresses/s")
	b.ReportMetric(median(limits), "bare-addresses/s")
	b.ReportMetric(median(shares), "%of-bare")
	b.ReportMetric(slices.Min(shares), "%of-bare-min")
	b.ReportMetric(slices.Max(shares), "%of-bare-max")
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// bare measures the reference.
func bare(b *testing.B) float64 {
	next := netip.MustParseAddr("10.201.0.0")
	var mu sync.Mutex
	return measureAllocation(b, bareClass, func(ctx context.Context, svc *corev1.Service) error {
		mu.Lock()
		next = next.Next()
		address := next
		mu.Unlock()
		patched := svc.DeepCopy()
		patched.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address.String()}}
		return cluster.Status().Patch(ctx, patched, client.MergeFrom(svc))
	})
}

// measureAllocation creates the Services and returns how many a second had
// their address, from the first creation to the last address. A nil patch
// leaves them to the controller.
func measureAllocation(b *testing.B, class string, patch func(context.Context, *corev1.Service) error) float64 {
	b.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: benchNamespace(class)}}
	if err := cluster.Create(b.Context(), namespace); err != nil {
		b.Fatal(err)
	}
	before := meter(b)
	began := time.Now()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(clientsAtOnce)
	for i := range *benchServices {
		group.Go(func() error {
			svc := newService(fmt.Sprintf("s%05d", i), map[string]string{"fairlead.dev/address-pool": "allocation"})
			svc.Namespace, svc.Spec.Selector = namespace.Name, nil
			svc.Spec.AllocateLoadBalancerNodePorts = new(bool) // there are only 2,768 node ports
			if class != "" {
				svc.Spec.LoadBalancerClass = &class
			}
			if err := cluster.Create(ctx, svc); err != nil || patch == nil {
				return err
			}
			return patch(ctx, svc)
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	created := time.Since(began)
	waitAllocated(b, namespace.Name)
	took := time.Since(began)
	b.Logf("%d Services, class %q: created after %.1f s, all have an address after %.1f s, load %s\n        %s",
		*benchServices, class, created.Seconds(), took.Seconds(), load(b), meter(b).since(before))
	deleteNamespace(b, namespace)
	return float64(*benchServices) / took.Seconds()
}

// waitAllocated waits until every Service has an address, and checks that no two have the same.
func waitAllocated(b *testing.B, namespace string) {
	b.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var list corev1.ServiceList
		if err := cluster.List(b.Context(), &list, client.InNamespace(namespace)); err != nil {
			b.Fatal(err)
		}
		seen := map[string]bool{}
		for _, svc := range list.Items {
			for _, ingress := range svc.Status.LoadBalancer.Ingress {
				if seen[ingress.IP] {
					b.Fatalf("%s was given twice", ingress.IP)
				}
				seen[ingress.IP] = true
			}
		}
		if len(seen) == *benchServices {
			return
		}
		select {
		case <-tick.C:
		case <-b.Context().Done():
			b.Fatal(b.Context().Err())
		}
	}
}

// deleteNamespace deletes what was measured and waits until it is gone.
func deleteNamespace(b *testing.B, namespace *corev1.Namespace) {
	b.Helper()
	if err := cluster.Delete(b.Context(), namespace); err != nil {
		b.Fatal(err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for cluster.Get(b.Context(), client.ObjectKeyFromObject(namespace), &corev1.Namespace{}) == nil {
		<-tick.C
	}
}

func load(t testing.TB) string {
	t.Helper()
	out, err := tryLab(t.Context(), "exec", "client", "--", "cut", "-d ", "-f1-3", "/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return out[:len(out)-1]
}
