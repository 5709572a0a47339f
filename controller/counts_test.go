package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// TestCountsCanWait makes many passes in a second, each of which gives an address: the pool's numbers are written once a
// second and are right in the end, its verdicts at once.
func TestCountsCanWait(t *testing.T) {
	const passes = 20
	b := newBench(t, nil, smallPool("10.0.0.1-10.0.0.20"))
	now := time.Unix(1e9, 0)
	b.clock = func() time.Time { return now }
	pass := func() reconcile.Result {
		t.Helper()
		b.catchUp(t)
		result, err := b.Reconcile(context.Background(), reconcile.Request{})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	pool := func() v1beta1.IPAddressPool {
		t.Helper()
		var pool v1beta1.IPAddressPool
		if err := b.server.Get(context.Background(), client.ObjectKey{Name: "lan"}, &pool); err != nil {
			t.Fatal(err)
		}
		return pool
	}
	pass()
	written := map[string]bool{pool().ResourceVersion: true}
	for i := range passes {
		now = now.Add(90 * time.Millisecond) // 1.8 s in all
		if err := b.server.Create(context.Background(), waiting(fmt.Sprint("s", i), time.Duration(i))); err != nil {
			t.Fatal(err)
		}
		pass()
		written[pool().ResourceVersion] = true
	}
	const most = 1 + 1 + 2*2 // when new; when protected; twice a second, its status and its conditions
	if len(written) > most {
		t.Errorf("the pool was written %d times, want no more than %d", len(written), most)
	}
	now = now.Add(pass().RequeueAfter)
	pass()
	if have := pool().Status.AssignedIPv4; have != passes {
		t.Errorf("%d addresses are assigned in the end, want %d", have, passes)
	}

	broken := pool()
	broken.Spec.Addresses = append(broken.Spec.Addresses, "10.0.0.9-10.0.0.1")
	broken.Generation++
	if err := b.server.Update(context.Background(), &broken); err != nil {
		t.Fatal(err)
	}
	pass()
	if have := pool().Status.Conditions[0]; have.Reason == v1beta1.ReasonReady {
		t.Errorf("a range that cannot be read is not told at once: %+v", have)
	}
}
