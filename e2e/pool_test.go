package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// A pool that is deleted in use drains: its Service keeps its address, which still answers, nobody else gets one, and it
// goes with the last Service. Made again, it moves nothing.
func TestDeletedPoolDrains(t *testing.T) {
	create(t, goingPool(), newService("holder", goingAnnotation()))
	had := addresses(allocated(t, "holder", v1beta1.ReasonAddressAllocated))
	fetched := func(ctx context.Context) error {
		_, err := fetch(ctx, "client", url(had[0], "/hostname"))
		return err
	}
	eventually(t, 30*time.Second, "the address answers", fetched)

	deletePool(t)
	eventually(t, 30*time.Second, "the pool is Draining", func(ctx context.Context) error {
		pool := goingPool()
		if err := cluster.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		draining := meta.FindStatusCondition(pool.Status.Conditions, v1beta1.ConditionDraining)
		if draining == nil || draining.Reason != v1beta1.ReasonDraining || !strings.Contains(draining.Message, "1 Service keeps an address of it: default/holder") {
			return fmt.Errorf("its condition is %+v", draining)
		}
		return nil
	})
	create(t, newService("newcomer", goingAnnotation()))
	if note := event(t, allocated(t, "newcomer", v1beta1.ReasonPoolNotAllowed), v1beta1.ReasonPoolNotAllowed); !strings.Contains(note, "going: being deleted") {
		t.Errorf("the Event %q does not say that the pool is being deleted", note)
	}
	same(t, "holder", v1beta1.ReasonAddressKept, had[0].String())
	eventually(t, 5*time.Second, "the address still answers", fetched)

	annotated := goingPool()
	body := []byte(`{"metadata":{"annotations":{"fairlead.dev/delete-in-use":"true"}}}`)
	if err := cluster.Patch(t.Context(), annotated, client.RawPatch(types.MergePatchType, body)); err != nil {
		t.Fatal(err)
	}
	poolGoes(t)
	same(t, "holder", v1beta1.ReasonAddressKept, had[0].String())
	create(t, goingPool())
	same(t, "holder", v1beta1.ReasonAddressAllocated, had[0].String())
	allocated(t, "newcomer", v1beta1.ReasonAddressAllocated)

	deletePool(t)
	for _, name := range []string{"holder", "newcomer"} {
		if err := cluster.Delete(t.Context(), newService(name, nil)); err != nil {
			t.Fatal(err)
		}
	}
	poolGoes(t)
}

func goingPool() *v1beta1.IPAddressPool {
	off := false
	pool := newPool("going", "172.30.0.196/31")
	pool.Spec.AutoAssign = &off
	return pool
}

func goingAnnotation() map[string]string {
	return map[string]string{"fairlead.dev/address-pool": "going"}
}

func deletePool(t *testing.T) {
	t.Helper()
	if err := cluster.Delete(t.Context(), goingPool()); err != nil {
		t.Fatal(err)
	}
}

func poolGoes(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "the pool goes", func(ctx context.Context) error {
		pool := goingPool()
		err := cluster.Get(ctx, client.ObjectKeyFromObject(pool), pool)
		if err == nil {
			return fmt.Errorf("it has the finalizers %v", pool.Finalizers)
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// same asserts that a Service gets to a reason and has one address.
func same(t *testing.T, name, reason, want string) {
	t.Helper()
	if got := addresses(allocated(t, name, reason)); len(got) != 1 || got[0].String() != want {
		t.Errorf("the Service %s has %v, want %s", name, got, want)
	}
}

// errDoubled means that two Services have one address, errMoved that one has another than before.
var (
	errDoubled = errors.New("given twice")
	errMoved   = errors.New("moved")
)

// holdings returns the address of each Service of a namespace that has one.
func holdings(ctx context.Context, namespace string, before map[string]string) (map[string]string, error) {
	var list corev1.ServiceList
	if err := cluster.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	have, holder := map[string]string{}, map[string]string{}
	for _, svc := range list.Items {
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			if other, taken := holder[ingress.IP]; taken {
				return nil, fmt.Errorf("%s of %s and %s: %w", ingress.IP, other, svc.Name, errDoubled)
			}
			holder[ingress.IP], have[svc.Name] = svc.Name, ingress.IP
		}
	}
	for name, address := range before {
		if have[name] != address {
			return nil, fmt.Errorf("%s had %s and has %q: %w", name, address, have[name], errMoved)
		}
	}
	return have, nil
}
