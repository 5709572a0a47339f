package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// crierQueue bounds how many Events wait to be sent; conditions say the same and are not lost.
	crierQueue = 20000
	// crierRate and crierBurst bound how many Events are sent a second. In a storm of new Services it is as many as other
	// news: nobody reads them as fast.
	crierRate, crierBurst = 50, 50
	// maxNote is how long the API server lets a note be.
	maxNote = 1024
)

// about is the object an Event is about.
type about struct {
	apiVersion, kind, namespace, name string
	uid                               types.UID
}

// crier sends Events, one after the other, not too fast, and never while statuses are written: addresses come before
// news of them.
type crier struct {
	client   client.Client
	clock    func() time.Time
	log      *slog.Logger
	instance string // who sends: the pod's name
	queue    chan *eventsv1.Event
	limit    *rate.Limiter
	quiet    sync.RWMutex // held for writing while statuses are written
}

func newCrier(c client.Client, clock func() time.Time, log *slog.Logger, instance string) *crier {
	return &crier{client: c, clock: clock, log: log, instance: instance, queue: make(chan *eventsv1.Event, crierQueue), limit: rate.NewLimiter(crierRate, crierBurst)}
}

// hush holds Events back until resume is called.
func (c *crier) hush()   { c.quiet.Lock() }
func (c *crier) resume() { c.quiet.Unlock() }

// pace makes Events slower in a storm.
func (c *crier) pace(calm bool) {
	limit := rate.Limit(newsRate)
	if calm {
		limit = crierRate
	}
	if c.limit.Limit() != limit {
		c.limit.SetLimit(limit)
	}
}

// cry sends an Event later. It does not block; if too many wait, the Event is dropped.
func (c *crier) cry(object about, e event) {
	namespace := object.namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where Events about cluster-scoped objects live
	}
	now := c.clock()
	next := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", object.name, now.UnixNano())},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: fieldManager,
		ReportingInstance:   c.instance,
		Action:              "Reconcile",
		Reason:              e.reason,
		Type:                e.kind,
		Note:                shorten(e.note, maxNote),
		Regarding:           corev1.ObjectReference{APIVersion: object.apiVersion, Kind: object.kind, Namespace: object.namespace, Name: object.name, UID: object.uid},
	}
	select {
	case c.queue <- next:
	default:
		c.log.Warn("dropped an Event: too many wait", "object", object.kind+"/"+object.name, "reason", e.reason)
	}
}

// Start sends Events until the context ends.
func (c *crier) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-c.queue:
			if err := c.limit.Wait(ctx); err != nil {
				return nil // the context ended
			}
			c.send(ctx, e)
		}
	}
}

func (c *crier) send(ctx context.Context, e *eventsv1.Event) {
	c.quiet.RLock()
	defer c.quiet.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := c.client.Create(ctx, e); err != nil && ctx.Err() == nil {
		c.log.Warn("send an Event", "object", e.Regarding.Kind+"/"+e.Regarding.Name, "reason", e.Reason, "error", err)
	}
}

// shorten cuts a text to at most n bytes, at the end of a character.
func shorten(text string, n int) string {
	const ellipsis = "…"
	if len(text) <= n {
		return text
	}
	cut := 0
	for i := range text {
		if i > n-len(ellipsis) {
			break
		}
		cut = i
	}
	return text[:cut] + ellipsis
}
