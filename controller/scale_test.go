package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

var (
	scaleServices = flag.Int("services", 300, "how many Services TestThroughput and TestKilled make; with 5000 and more the goals are asserted")
	scaleKills    = flag.Int("kills", 3, "how often TestKilled kills the controller")
)

const (
	wantRate   = 200.0 // addresses a second
	wantShare  = 0.8   // of what a client reaches that does nothing but write statuses
	wantMemory = 150   // MiB
)

// TestThroughput measures how fast waiting Services get their addresses, beside a client that only writes statuses. That
// one is measured before and after, because the machine has other things to do.
//
//	go test ./controller -run TestThroughput -services=5000 -v
func TestThroughput(t *testing.T) {
	p := startPlane(t)
	n, few := *scaleServices, *scaleServices/5
	program := p.buildController(t)

	p.createMany(t, "waiting", n)
	before := p.measure(t, "waiting", n, func() { p.patchBare(t, "waiting", n) })
	p.clearMany(t, "waiting", n)
	bareStorm := p.measure(t, "bare-storm", few, func() {
		p.createMany(t, "bare-storm", few)
		p.patchBare(t, "bare-storm", few)
	})

	p.create(t, bigPool())
	var controller *exec.Cmd
	rate := p.measure(t, "waiting", n, func() { controller = p.run(t, program) })
	storm := p.measure(t, "storm", few, func() { p.createMany(t, "storm", few) })
	peak := memoryOf(t, controller, "VmHWM")

	_ = controller.Process.Kill()
	p.clearMany(t, "waiting", n)
	after := p.measure(t, "waiting", n, func() { p.patchBare(t, "waiting", n) })
	reference := (before + after) / 2
	t.Logf("%d Services: bare client %.0f/s before and %.0f/s after; controller %.0f/s (%.0f %%)", n, before, after, rate, 100*rate/reference)
	t.Logf("%d more, from the first creation to the last address: bare client %.0f/s, controller %.0f/s", few, bareStorm, storm)
	t.Logf("memory of the controller: at most %d MiB", peak)
	if n < 5000 {
		return
	}
	if rate < wantRate || rate < wantShare*reference {
		t.Errorf("%.0f addresses a second, want %.0f and %.0f %% of %.0f", rate, wantRate, 100*wantShare, reference)
	}
	if peak > wantMemory {
		t.Errorf("%d MiB of memory, want %d", peak, wantMemory)
	}
}

func bigPool() *v1beta1.IPAddressPool {
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "big"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"10.128.0.0/15"}
	return pool
}

// createMany makes Services in a namespace of their own, many at once.
func (p *plane) createMany(t *testing.T, namespace string, n int) {
	t.Helper()
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	no := false
	p.each(n, func(i int) {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("s%05d", i), Labels: map[string]string{"app": fmt.Sprint("app", i%100)}},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no,
				Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": fmt.Sprint("app", i%100)},
			},
		}
		err := insist(func() error { return p.admin.Create(context.Background(), service.DeepCopy()) })
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Error(err)
		}
	})
}

// each calls a function for 0…n-1, as many side by side as the controller has writers.
func (p *plane) each(n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// patchBare writes what the controller writes, without looking or thinking.
func (p *plane) patchBare(t *testing.T, namespace string, n int) {
	t.Helper()
	p.each(n, func(i int) {
		addr := fmt.Sprintf("10.%d.%d.%d", 100+i>>16, i>>8&255, i&255)
		body := fmt.Sprintf(`{"metadata":{"annotations":{"fairlead.dev/ip-allocated-from-pool":"big"}},"status":{"loadBalancer":{"ingress":[{"ip":%q}]},"conditions":[{"type":"fairlead.dev/Allocated","status":"True","reason":"AddressAllocated","message":"%s from pool big","lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"fairlead.dev/Announced","status":"Unknown","reason":"Pending","message":"waiting for a node to announce %s","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, addr, addr, addr)
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("s%05d", i)}}
		p.patchStatus(t, service, client.RawPatch(types.StrategicMergePatchType, []byte(body)))
	})
}

func (p *plane) patchStatus(t *testing.T, service *corev1.Service, patch client.Patch) {
	t.Helper()
	err := insist(func() error { return p.admin.Status().Patch(context.Background(), service.DeepCopy(), patch) })
	if err != nil {
		t.Error(err)
	}
}

// measure watches a namespace, calls a function, and returns how many Services a second got an address, from the first
// that was made or changed to the last of n.
func (p *plane) measure(t *testing.T, namespace string, n int, f func()) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	addressed := make(chan string, n)
	var first atomic.Pointer[time.Time]
	informer := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(p.config), 0, informers.WithNamespace(namespace)).Core().V1().Services().Informer()
	before := p.version(t) // what is older was there before: a watch may begin in the past
	look := func(object any) {
		service, ok := object.(*corev1.Service)
		if !ok || !older(before, service.ResourceVersion) {
			return
		}
		now := time.Now()
		first.CompareAndSwap(nil, &now)
		if len(service.Status.LoadBalancer.Ingress) == 0 {
			return
		}
		select {
		case addressed <- service.Name:
		case <-ctx.Done():
		}
	}
	handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, object any) { look(object) }})
	if err != nil {
		t.Fatal(err)
	}
	go informer.Run(ctx.Done())
	if !toolscache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		t.Fatal("the watch does not begin")
	}
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	seen := map[string]struct{}{}
	var last time.Time
	for len(seen) < n {
		select {
		case name := <-addressed:
			if _, again := seen[name]; again {
				continue
			}
			seen[name] = struct{}{}
			last = time.Now()
		case <-ctx.Done():
			t.Fatalf("%d of %d Services have an address after 5 minutes", len(seen), n)
		}
	}
	<-done
	return float64(n-1) / last.Sub(*first.Load()).Seconds()
}

// version returns how far the API server is.
func (p *plane) version(t *testing.T) string {
	t.Helper()
	var services corev1.ServiceList
	if err := insist(func() error { return p.admin.List(context.Background(), &services) }); err != nil {
		t.Fatal(err)
	}
	return services.ResourceVersion
}

// clearMany takes back what patchBare wrote.
func (p *plane) clearMany(t *testing.T, namespace string, n int) {
	t.Helper()
	const body = `{"metadata":{"annotations":null},"status":null}`
	p.each(n, func(i int) {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("s%05d", i)}}
		p.patchStatus(t, service, client.RawPatch(types.MergePatchType, []byte(body)))
	})
}

// memoryOf returns a figure of a process in MiB.
func memoryOf(t *testing.T, cmd *exec.Cmd, figure string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kib int
		if n, _ := fmt.Sscanf(line, figure+": %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	t.Fatalf("no %s in %s", figure, data)
	return 0
}

// TestKilled kills the controller at random points while Services come and go, and asserts that no address is given
// twice and none moves.
//
//	go test ./controller -run TestKilled -services=5000 -kills=20 -v
func TestKilled(t *testing.T) {
	p := startPlane(t)
	n := *scaleServices
	program := p.buildController(t)
	p.create(t, bigPool())
	p.createMany(t, "killed", n)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	before := map[string]string{}
	for kill := range *scaleKills {
		// without leader election a new process follows at once: that is harder than waiting for the lease
		cmd := p.run(t, program, "--leader-elect=false")
		p.awaitProgress(t, len(before), n)
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond) // the random point
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		before = p.compare(t, before, random)
		t.Logf("kill %d: %d of %d have an address", kill+1, len(before), n)
	}
	p.run(t, program, "--leader-elect=false")
	eventually(t, 3*time.Minute, func() error {
		if have := p.addresses(t); len(have) < n {
			return fmt.Errorf("%d of %d have an address", len(have), n)
		}
		return nil
	})
	p.compare(t, before, nil)
}

// awaitProgress waits until more Services than before have an address, or all.
func (p *plane) awaitProgress(t *testing.T, before, n int) {
	t.Helper()
	eventually(t, 3*time.Minute, func() error {
		if have := len(p.addresses(t)); have <= before && have < n {
			return fmt.Errorf("no Service beyond %d has an address", before)
		}
		return nil
	})
}

// addresses returns the address of each Service that has one, and fails if two have the same.
func (p *plane) addresses(t *testing.T) map[string]string {
	t.Helper()
	var services corev1.ServiceList
	if err := insist(func() error { return p.admin.List(context.Background(), &services, client.InNamespace("killed")) }); err != nil {
		t.Fatal(err)
	}
	have, holder := map[string]string{}, map[string]string{}
	for _, service := range services.Items {
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if other, taken := holder[ingress.IP]; taken {
				t.Fatalf("%s and %s both have %s", other, service.Name, ingress.IP)
			}
			holder[ingress.IP] = service.Name
			have[service.Name] = ingress.IP
		}
	}
	return have
}

// compare asserts that no address moved, then makes some Services anew so that addresses are free again.
func (p *plane) compare(t *testing.T, before map[string]string, random *rand.Rand) map[string]string {
	t.Helper()
	have := p.addresses(t)
	for name, addr := range before {
		if have[name] != addr {
			t.Fatalf("%s had %s and has %q", name, addr, have[name])
		}
	}
	if random == nil {
		return have
	}
	no := false
	for name := range have {
		if random.IntN(20) > 0 {
			continue
		}
		delete(have, name)
		p.renew(t, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "killed", Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no, Ports: []corev1.ServicePort{{Port: 80}}},
		})
	}
	return have
}

// renew deletes a Service and makes it anew.
func (p *plane) renew(t *testing.T, service *corev1.Service) {
	t.Helper()
	if err := insist(func() error { return client.IgnoreNotFound(p.admin.Delete(context.Background(), service.DeepCopy())) }); err != nil {
		t.Fatal(err)
	}
	err := insist(func() error { return p.admin.Create(context.Background(), service.DeepCopy()) })
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}
