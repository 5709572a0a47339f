package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1beta1"
)

const (
	// writers is how many Services are written at once. Decisions are made by one goroutine; only the waiting for the
	// API server is shared out.
	writers = 32
	// writeBudget is for how long one pass writes: what it has not written by then the next one decides anew, so that a
	// storm of new Services does not delay what happens meanwhile.
	writeBudget = 2 * time.Second
	// writeTimeout is for how long one write may take. It is less than the time between a leader that gives up, 10 s
	// after it last renewed its lease, and the next one, 15 s after: no write of the former meets those of the latter.
	writeTimeout = 4 * time.Second
	// patrol is how often the world is read again although no bell rang.
	patrol = time.Minute
	// soon is when to try again what did not work out because the cache lags behind.
	soon = 50 * time.Millisecond
	// leisure is how many times as long as it takes to decide a bell waits for others: deciding about many Services for
	// each of many bells would leave no time for anything else.
	leisure = 19
	// gatherLeast and gatherMost bound that wait.
	gatherLeast = 20 * time.Millisecond
	gatherMost  = time.Second
)

// reconciler reads the world, decides, and writes what follows. It is the only writer of Services' statuses and of
// pools. It has one key and one worker: decisions about addresses are never made side by side.
type reconciler struct {
	source  source
	client  client.Client
	clock   func() time.Time
	log     *slog.Logger
	metrics *metrics
	crier   *crier
	news    news
	counts  counts

	memory *memory
	leases []lease
	terms  map[types.NamespacedName]uint64
	primed bool         // the cache was seen to be fresh, and leases were read
	took   atomic.Int64 // how long the last decision took, in nanoseconds
}

// Reconcile is one pass.
func (r *reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	began := r.clock()
	w, namespaces, err := r.source.read(ctx, r.memory, began)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !r.primed {
		fresh, err := r.source.fresh(ctx)
		if err != nil || !fresh {
			return reconcile.Result{RequeueAfter: soon}, err
		}
		r.leases, r.primed = readLeases(w.pools), true
	}
	w.leases, w.terms = r.leases, r.terms
	o := decide(w, namespaces)
	r.leases, r.terms = o.leases, o.terms
	took := r.clock().Sub(began)
	r.took.Store(int64(took))
	r.metrics.observe(w, o, took)

	due, held := r.news.hold(o.services, r.clock())
	r.crier.pace(r.news.calm(r.clock()))
	pools, wait := r.counts.hold(o.pools, r.clock())
	left, again, err := r.writeServices(ctx, due)
	err = errors.Join(err, r.writePools(ctx, pools, &again), r.writeL2(ctx, o.l2, &again), r.writeRouting(ctx, o.routing, &again))
	if left > 0 && err != nil { // one that fails must not hold up those whose turn has not come
		r.log.Warn("write", "error", err)
		err = nil
	}
	next := result(o, left, held, again)
	if wait > 0 {
		next.RequeueAfter = min(next.RequeueAfter, wait)
	}
	return next, err
}

// gather returns how long a bell waits for others before a pass begins.
func (r *reconciler) gather() time.Duration {
	return min(max(gatherLeast, leisure*time.Duration(r.took.Load())), gatherMost)
}

// result says when the next pass is due if no bell rings.
func result(o outcome, left, held int, again bool) reconcile.Result {
	after := patrol
	if o.next > 0 {
		after = min(after, o.next)
	}
	switch {
	case left > 0:
		after = time.Millisecond
	case again:
		after = soon
	case held > 0:
		after = min(after, calmAfter)
	}
	return reconcile.Result{RequeueAfter: after}
}

// writeServices writes changes side by side. left is how many it did not get to, again whether one was refused because
// the Service has changed since it was read.
func (r *reconciler) writeServices(ctx context.Context, changes []serviceChange) (left int, again bool, err error) {
	if len(changes) == 0 {
		return 0, false, nil
	}
	r.crier.hush()
	defer r.crier.resume()
	until := r.clock().Add(writeBudget)
	var next, conflicts atomic.Int64
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range min(writers, len(changes)) {
		wg.Go(func() {
			for ctx.Err() == nil && r.clock().Before(until) {
				i := int(next.Add(1)) - 1
				if i >= len(changes) {
					return
				}
				conflict, err := r.writeService(ctx, changes[i])
				if conflict {
					conflicts.Add(1)
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return max(0, len(changes)-int(next.Load())), conflicts.Load() > 0, firstOf(errs)
}

// firstOf returns the first of many errors: they mostly say the same.
func firstOf(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1)
}

// writeService writes one change. conflict reports that the Service has changed or gone since it was read; the cache
// will tell.
func (r *reconciler) writeService(ctx context.Context, change serviceChange) (conflict bool, err error) {
	body, err := change.patch()
	if err != nil {
		return false, err
	}
	// A write that has begun is seen to its end also when the controller is told to stop: only then the lease is let go.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: change.service.Namespace, Name: change.service.Name}}
	err = r.client.Status().Patch(ctx, service, client.RawPatch(types.StrategicMergePatchType, body), client.FieldOwner(fieldManager))
	switch {
	case err == nil:
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err), apierrors.IsTooManyRequests(err):
		return false, fmt.Errorf("write the status of Service %s/%s: %w", service.Namespace, service.Name, err)
	default: // whether it was written nobody knows
		r.memory.doubt(change)
		return false, fmt.Errorf("write the status of Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	strip(service)
	r.memory.wrote(service)
	r.tell(service, change)
	return false, nil
}

// tell counts, logs and cries out a change that was written.
func (r *reconciler) tell(service *corev1.Service, change serviceChange) {
	r.metrics.count(change, r.clock())
	for _, e := range change.events {
		r.crier.cry(about{"v1", "Service", service.Namespace, service.Name, service.UID}, e)
		r.log.Info(e.note, "service", service.Namespace+"/"+service.Name, "reason", e.reason)
	}
}

func (r *reconciler) writePools(ctx context.Context, changes []poolChange, again *bool) error {
	var errs []error
	for _, change := range changes {
		pool := change.pool
		pool.ManagedFields = nil // stripped in the cache: nil leaves them as they are
		var err error
		if change.status {
			err = r.client.Status().Update(ctx, &pool, client.FieldOwner(fieldManager))
		}
		if err == nil && change.protect { // last: a pool that is let go is gone with it
			err = r.protect(ctx, pool, change.pool.Finalizers)
		}
		if err == nil {
			r.counts[pool.Name] = r.clock()
		}
		errs = append(errs, r.wroteObject(err, again, about{v1beta1.GroupVersion.String(), "IPAddressPool", "", pool.Name, pool.UID}, change.events))
	}
	return errors.Join(errs...)
}

// protect writes the finalizers of a pool, unless it has changed since.
func (r *reconciler) protect(ctx context.Context, pool v1beta1.IPAddressPool, finalizers []string) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": pool.ResourceVersion, "finalizers": finalizers}})
	if err != nil {
		return err
	}
	err = r.client.Patch(ctx, &pool, client.RawPatch(types.MergePatchType, body), client.FieldOwner(fieldManager))
	return client.IgnoreNotFound(err)
}

func (r *reconciler) writeL2(ctx context.Context, changes []l2Change, again *bool) error {
	var errs []error
	for _, change := range changes {
		l2 := change.l2
		l2.ManagedFields = nil
		err := r.client.Status().Update(ctx, &l2, client.FieldOwner(fieldManager))
		errs = append(errs, r.wroteObject(err, again, about{v1beta1.GroupVersion.String(), "L2Advertisement", "", l2.Name, l2.UID}, change.events))
	}
	return errors.Join(errs...)
}

func (r *reconciler) writeRouting(ctx context.Context, changes []routingChange, again *bool) error {
	var errs []error
	for _, change := range changes {
		object := change.object
		object.SetManagedFields(nil)
		err := r.client.Status().Update(ctx, object, client.FieldOwner(fieldManager))
		errs = append(errs, r.wroteObject(err, again, about{v1beta1.GroupVersion.String(), change.kind, "", object.GetName(), object.GetUID()}, change.events))
	}
	return errors.Join(errs...)
}

// wroteObject does what is to do after a write of one of our own kinds.
func (r *reconciler) wroteObject(err error, again *bool, object about, events []event) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		*again = true
		return nil
	case err != nil:
		return fmt.Errorf("write the status of %s %s: %w", object.kind, object.name, err)
	}
	for _, e := range events {
		r.crier.cry(object, e)
		r.log.Info(e.note, "object", object.kind+"/"+object.name, "reason", e.reason)
	}
	return nil
}
