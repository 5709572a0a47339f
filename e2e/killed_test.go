package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	killServices = flag.Int("kill-services", 60, "Services that TestKilled creates at once")
	kills        = flag.Int("kills", 1, "how often TestKilled kills the controller")
)

// listEvery is the pause between two lists of all Services: they take the API server's time from the controller.
const listEvery = 2 * time.Second

// mostMemory is how much memory the controller may take, in MiB.
const mostMemory = 150

// TestKilled creates many Services at once on the lab and kills the controller again and again, each time at a random
// point after it has given more addresses: none is given twice, none moves, and in the end everybody has one.
//
//	go test ./e2e -run TestKilled -kill-services 5000 -kills 20 -timeout 60m -v
func TestKilled(t *testing.T) {
	const namespace = "killed"
	off := false
	pool := newPool("killed", "10.202.0.0/16")
	pool.Spec.AutoAssign = &off
	create(t, pool, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	created := make(chan error, 1)
	go func() { created <- createMany(t.Context(), namespace) }()

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var before map[string]string
	var peak int
	for kill := range *kills {
		awaitMore(t, namespace, before)
		waitFor(t, time.Duration(random.IntN(1000))*time.Millisecond) // the random point
		peak = max(peak, killController(t))
		before = look(t, namespace, before)
		t.Logf("kill %d (seed %d): %d of %d Services have an address, load %s", kill+1, seed, len(before), *killServices, load(t))
		before = renew(t, namespace, before, random)
	}
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	every(t, listEvery, 10*time.Minute, "everybody has an address", func(ctx context.Context) error {
		have, err := holdings(ctx, namespace, before)
		if err == nil && len(have) < *killServices {
			return fmt.Errorf("%d of %d", len(have), *killServices)
		}
		return err
	})
	look(t, namespace, before)
	_, now := controller(t)
	t.Logf("memory of the controller: at most %d MiB", max(peak, now))
	if max(peak, now) > mostMemory {
		t.Errorf("want no more than %d MiB", mostMemory)
	}
}

func createMany(ctx context.Context, namespace string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clientsAtOnce)
	for i := range *killServices {
		group.Go(func() error { return insist(ctx, killedService(namespace, fmt.Sprintf("s%05d", i)), createOne) })
	}
	return group.Wait()
}

// insist makes a change again that the API server was too busy for: whether it was made nobody knows.
func insist(ctx context.Context, svc *corev1.Service, change func(context.Context, *corev1.Service) error) error {
	for {
		err := change(ctx, svc)
		if !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) && !apierrors.IsTooManyRequests(err) || ctx.Err() != nil {
			return err
		}
	}
}

func createOne(ctx context.Context, svc *corev1.Service) error {
	err := cluster.Create(ctx, svc.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func deleteOne(ctx context.Context, svc *corev1.Service) error {
	return client.IgnoreNotFound(cluster.Delete(ctx, svc.DeepCopy()))
}

func killedService(namespace, name string) *corev1.Service {
	svc := newService(name, map[string]string{"fairlead.dev/address-pool": "killed"})
	svc.Namespace, svc.Spec.Selector = namespace, nil
	svc.Spec.AllocateLoadBalancerNodePorts = new(bool)
	return svc
}

// awaitMore waits until more Services have an address than before, or all.
func awaitMore(t *testing.T, namespace string, before map[string]string) {
	t.Helper()
	every(t, listEvery, 3*time.Minute, "more addresses", func(ctx context.Context) error {
		have, err := holdings(ctx, namespace, before)
		if err == nil && len(have) <= len(before) && len(have) < *killServices {
			return fmt.Errorf("%d Services have an address, as before", len(have))
		}
		return err
	})
}

func look(t *testing.T, namespace string, before map[string]string) map[string]string {
	t.Helper()
	have, err := holdings(t.Context(), namespace, before)
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// renew deletes some Services and makes them anew, so that addresses become free, and returns what the others have.
func renew(t *testing.T, namespace string, have map[string]string, random *rand.Rand) map[string]string {
	t.Helper()
	const most = 50
	renewed := 0
	for name := range have {
		if renewed == most || random.IntN(20) > 0 {
			continue
		}
		renewed++
		delete(have, name)
		for _, change := range []func(context.Context, *corev1.Service) error{deleteOne, createOne} {
			if err := insist(t.Context(), killedService(namespace, name), change); err != nil {
				t.Fatal(err)
			}
		}
	}
	return have
}

func waitFor(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// killController kills the controller's process as a lost node would, and returns how much memory it took at most. The
// pod is deleted, too: else the kubelet would wait longer and longer before it starts another.
func killController(t *testing.T) (memory int) {
	t.Helper()
	var pid int
	eventually(t, 2*time.Minute, "a controller runs", func(context.Context) error {
		if pid, memory = controller(t); pid == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var pods corev1.PodList
	labels := client.MatchingLabels{"app.kubernetes.io/component": "controller"}
	if err := cluster.List(t.Context(), &pods, client.InNamespace("fairlead-system"), labels); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		if err := client.IgnoreNotFound(cluster.Delete(t.Context(), &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
			t.Fatal(err)
		}
	}
	return memory
}

// controller returns the process of the controller in this lab and its peak of memory in MiB; no process if none runs.
func controller(t *testing.T) (pid, memory int) {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		cgroup, _ := os.ReadFile(filepath.Join(folder, "cgroup"))
		if name, _, ok := cpuOf(folder); !ok || name != "controller" || !strings.Contains(string(cgroup), "/"+labName()+"/") {
			continue
		}
		status, _ := os.ReadFile(filepath.Join(folder, "status"))
		for line := range strings.Lines(string(status)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
				pid, _ = strconv.Atoi(filepath.Base(folder))
				return pid, kib >> 10
			}
		}
	}
	return 0, 0
}
