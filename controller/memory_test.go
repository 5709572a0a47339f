package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// bench is a reconciler in front of a fake API server, with a cache that shows only what the test lets it see.
type bench struct {
	*reconciler
	server client.Client
	cached []*corev1.Service
}

// newBench returns a bench whose API server answers status patches through answer, if that is not nil.
func newBench(t *testing.T, answer func(err error) error, objects ...client.Object) *bench {
	t.Helper()
	scheme := apiruntime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&corev1.Service{}, &v1beta1.IPAddressPool{}).WithObjects(objects...)
	if answer != nil {
		builder = builder.WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				return answer(c.SubResource(sub).Patch(ctx, object, patch, opts...))
			},
		})
	}
	b := &bench{server: builder.Build()}
	log := slog.New(slog.DiscardHandler)
	b.reconciler = &reconciler{
		source: source{cache: b.server, live: b.server, services: func() ([]*corev1.Service, error) { return b.cached, nil }},
		client: b.server, clock: time.Now, log: log,
		metrics: newMetrics(prometheus.NewRegistry()), crier: newCrier(b.server, time.Now, log, "test"), news: newNews(), counts: counts{}, memory: newMemory(),
	}
	return b
}

// catchUp lets the cache see everything.
func (b *bench) catchUp(t *testing.T) {
	t.Helper()
	var list corev1.ServiceList
	if err := b.server.List(context.Background(), &list); err != nil {
		t.Fatal(err)
	}
	b.cached = nil
	for i := range list.Items {
		b.cached = append(b.cached, &list.Items[i])
	}
}

// addresses returns what Services have at the API server.
func (b *bench) addresses(t *testing.T) map[string][]string {
	t.Helper()
	var list corev1.ServiceList
	if err := b.server.List(context.Background(), &list); err != nil {
		t.Fatal(err)
	}
	have := map[string][]string{}
	for _, service := range list.Items {
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			have[service.Name] = append(have[service.Name], ingress.IP)
		}
	}
	return have
}

func waiting(name string, age time.Duration) *corev1.Service {
	service := loadBalancer(name)
	service.UID = types.UID("uid of " + name) // a fake API server gives none
	service.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0).Add(-age))
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	return service
}

func smallPool(addresses v1beta1.AddressRange) *v1beta1.IPAddressPool {
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{addresses}
	return pool
}

// TestStaleCache asserts that a cache which does not know our last write gives no address twice.
func TestStaleCache(t *testing.T) {
	old := waiting("old", time.Hour)
	b := newBench(t, nil, smallPool("10.0.0.1-10.0.0.2"), old)
	b.catchUp(t)
	if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	stale := b.cached // old is without address in here

	older := waiting("older", 2*time.Hour) // comes later, but is first in line
	if err := b.server.Create(context.Background(), older); err != nil {
		t.Fatal(err)
	}
	b.catchUp(t)
	b.cached = append(slices.DeleteFunc(b.cached, func(s *corev1.Service) bool { return s.Name == "old" }), stale...)
	if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"old": {"10.0.0.1"}, "older": {"10.0.0.2"}}
	if diff := cmp.Diff(want, b.addresses(t)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// TestLostAnswer asserts that a write whose answer is lost counts as done until the cache knows better: the address is
// given to nobody else.
func TestLostAnswer(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		lost := errors.New("the connection is gone")
		fail := true
		answer := func(err error) error {
			if fail {
				return lost
			}
			return err
		}
		b := newBench(t, answer, smallPool("10.0.0.1-10.0.0.2"), waiting("old", time.Hour))
		if !arrived { // nothing gets through
			b.client = interceptor.NewClient(b.server.(client.WithWatch), interceptor.Funcs{
				SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
					if fail {
						return lost
					}
					return c.SubResource(sub).Patch(ctx, object, patch, opts...)
				},
			})
		}
		b.catchUp(t)
		stale := b.cached
		if _, err := b.Reconcile(context.Background(), reconcile.Request{}); !errors.Is(err, lost) {
			t.Fatalf("error %v, want %v", err, lost)
		}
		fail = false
		if err := b.server.Create(context.Background(), waiting("older", 2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		b.catchUp(t)
		b.cached = append(slices.DeleteFunc(b.cached, func(s *corev1.Service) bool { return s.Name == "old" }), stale...)
		for range 2 {
			if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
				t.Fatal(err)
			}
			b.catchUp(t)
		}
		want := map[string][]string{"old": {"10.0.0.1"}, "older": {"10.0.0.2"}}
		if diff := cmp.Diff(want, b.addresses(t)); diff != "" {
			t.Errorf("arrived %t: addresses (-want +got):\n%s", arrived, diff)
		}
	}
}

// TestFresh asserts that a new leader waits for a cache that lags behind the API server.
func TestFresh(t *testing.T) {
	holder := waiting("holder", time.Hour)
	holder.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
	b := newBench(t, nil, smallPool("10.0.0.1-10.0.0.2"), holder, waiting("new", 2*time.Hour))
	b.catchUp(t)
	all := b.cached
	b.cached = slices.DeleteFunc(slices.Clone(all), func(s *corev1.Service) bool { return s.Name == "holder" })
	result, err := b.Reconcile(context.Background(), reconcile.Request{})
	if err != nil || result.RequeueAfter != soon {
		t.Errorf("result %v, %v; want to try again after %s", result, err, soon)
	}
	if diff := cmp.Diff(map[string][]string{"holder": {"10.0.0.1"}}, b.addresses(t)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	b.cached = all
	if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"holder": {"10.0.0.1"}, "new": {"10.0.0.2"}}, b.addresses(t)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// TestQuiet asserts that a pass in which nothing changed writes nothing, however many Services wait.
func TestQuiet(t *testing.T) {
	var writes atomic.Int64
	count := func(err error) error { writes.Add(1); return err }
	b := newBench(t, count, smallPool("10.0.0.1"), waiting("has", 3*time.Hour), waiting("waits", 2*time.Hour), waiting("waits-too", time.Hour))
	for range 3 {
		b.catchUp(t)
		if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	b.catchUp(t)
	for _, service := range b.cached { // the fake API server does not take annotations with a status; a real one does
		if len(service.Status.LoadBalancer.Ingress) > 0 {
			metav1.SetMetaDataAnnotation(&service.ObjectMeta, config.AllocatedFrom, "lan")
		}
	}
	writes.Store(0)
	if _, err := b.Reconcile(context.Background(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes although nothing changed", n)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newMetrics(registry)
	pool := *smallPool("10.0.0.1-10.0.0.4")
	w := world{now: time.Unix(0, 0), pools: []v1beta1.IPAddressPool{pool}}
	w.config, _ = config.Read(config.Objects{Pools: w.pools})
	for _, name := range []string{"a", "b"} {
		service := waiting(name, 0)
		if name == "b" {
			service.Spec.LoadBalancerIP = "10.9.9.9"
		}
		e, _ := readEntry(service, "")
		w.services = append(w.services, e)
	}
	o := decide(w, nil)
	m.observe(w, o, time.Millisecond)
	for _, change := range o.services {
		m.count(change, time.Unix(1e9, 0))
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, family := range families {
		names = append(names, family.GetName())
	}
	want := []string{
		"fairlead_allocation_wait_seconds", "fairlead_allocations_total", "fairlead_decision_duration_seconds",
		"fairlead_pool_addresses", "fairlead_pool_addresses_used", "fairlead_refusals_total", "fairlead_services_waiting",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(m.refusals.WithLabelValues(v1beta1.ReasonAddressNotInPool)); got != 1 {
		t.Errorf("%v refusals, want 1", got)
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want string
	}{{"short", 10, "short"}, {"exactly", 7, "exactly"}, {"a long text", 8, "a lon…"}, {"ääää", 7, "ää…"}} {
		if got := shorten(test.text, test.n); got != test.want || len(got) > test.n {
			t.Errorf("%q in %d bytes is %q, want %q", test.text, test.n, got, test.want)
		}
	}
}

// TestStrip asserts that stripping keeps who wrote the addresses, and that stripping again changes nothing.
func TestStrip(t *testing.T) {
	service := waiting("web", 0)
	service.Status.LoadBalancer.Ingress = ingressOf([]netip.Addr{netip.MustParseAddr("10.0.0.1")})
	service.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: "kubectl", Operation: "Update", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:type":{}}}`)},
		{Manager: "cloud", Operation: "Update", Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`)},
		{Manager: "other", Operation: "Update", Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{}}}`)},
	}
	strip(service)
	once := service.DeepCopy()
	if owner := foreignOwner(service); owner != "cloud" {
		t.Errorf("the addresses are %q's, want cloud's", owner)
	}
	strip(service)
	if diff := cmp.Diff(once, service); diff != "" {
		t.Errorf("stripped again (-want +got):\n%s", diff)
	}
}
