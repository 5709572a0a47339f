package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientcache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// speakerLabels are on every speaker pod.
var speakerLabels = labels.Set{
	"app.kubernetes.io/name":      "fairlead",
	"app.kubernetes.io/component": "speaker",
}

// bells are what the watches ring.
type bells struct {
	services *dirty // Services to translate again
	// addressed are the Services that Fairlead gave addresses: whose endpoints matter to the announcements.
	addressed *names
	world     chan struct{} // what all translations depend on
	links     chan struct{} // this node's links and addresses
	announce  chan struct{} // what the announcements by Layer 2 depend on
	peers     chan struct{} // what the routes depend on
	// outdated is called before announce or peers is rung for an object.
	outdated func()
}

// configured rings for a change of what users wrote about announcing.
func (b bells) configured(client.Object) {
	b.outdated()
	ring(b.announce)
	ring(b.peers)
}

// cacheOptions keep out of memory what the speaker never reads.
func cacheOptions(namespace, node string) (cache.Options, error) {
	notHeadless, err := labels.NewRequirement(corev1.IsHeadlessService, selection.DoesNotExist, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("select EndpointSlices: %w", err)
	}
	shared := true
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			// These are read often, and never written: no reader needs a copy of its own.
			&corev1.Service{}: {Transform: stripService, UnsafeDisableDeepCopy: &shared},
			&discoveryv1.EndpointSlice{}: {
				Label: labels.NewSelector().Add(*notHeadless), Transform: newSliceStripper().strip, UnsafeDisableDeepCopy: &shared,
			},
			&corev1.Node{}:     {Transform: stripNode, UnsafeDisableDeepCopy: &shared},
			&v1beta1.Speaker{}: {Field: fields.OneTermEqualSelector("metadata.name", node)}, // the one it writes
			&corev1.Pod{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Label:      labels.SelectorFromSet(speakerLabels),
				Transform:  stripPod,
			},
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}, Transform: stripSecret},
		},
	}, nil
}

// indexCache makes EndpointSlices findable by their Service.
func indexCache(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, byService, func(object client.Object) []string {
		return []string{serviceOf(object)}
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices by Service: %w", err)
	}
	return nil
}

// hasAddress tells whether Fairlead gave a Service an address.
func hasAddress(object client.Object) bool {
	svc, ok := object.(*corev1.Service)
	return ok && len(config.Addresses(svc)) > 0
}

// storedServices reads Services straight from the informer's store: a list would copy them all for every round.
func storedServices(ctx context.Context, informers cache.Cache) (func() []*corev1.Service, error) {
	informer, err := informers.GetInformer(ctx, &corev1.Service{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	shared, ok := informer.(clientcache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("the cache of Services is a %T", informer)
	}
	return func() []*corev1.Service {
		objects := shared.GetStore().List()
		services := make([]*corev1.Service, 0, len(objects))
		for _, object := range objects {
			if svc, ok := object.(*corev1.Service); ok {
				services = append(services, svc)
			}
		}
		return services
	}, nil
}

// serviceOf returns "namespace/name" of the Service a slice belongs to.
func serviceOf(slice client.Object) string {
	return slice.GetNamespace() + "/" + slice.GetLabels()[discoveryv1.LabelServiceName]
}

// watchAll starts the watches of what every API server serves and wires each to the bells it rings.
func watchAll(ctx context.Context, informers cache.Cache, b bells, serviceCIDRs bool) error {
	world := func(o client.Object) { ring(b.world); b.configured(o) }
	announce := b.configured
	layer2 := func(client.Object) { b.outdated(); ring(b.announce) }
	watches := []watched{
		{&corev1.Service{}, func(o client.Object) {
			key := client.ObjectKeyFromObject(o).String()
			b.services.add(key)
			// Most Services are none of the announcements' business.
			if b.addressed.note(key, hasAddress(o)) {
				announce(o)
			}
		}},
		{&discoveryv1.EndpointSlice{}, func(o client.Object) {
			key := serviceOf(o)
			b.services.add(key)
			if key == "default/kubernetes" {
				ring(b.world)
			}
			if b.addressed.has(key) {
				announce(o)
			}
		}},
		{&corev1.Node{}, world},
		{&corev1.Pod{}, layer2},
	}
	if serviceCIDRs {
		watches = append(watches, watched{&networkingv1.ServiceCIDR{}, world})
	}
	started := time.Now()
	for _, w := range watches {
		if err := w.start(ctx, informers, func(before, after any) { b.trigger(started, before, after) }); err != nil {
			return err
		}
	}
	return nil
}

// trigger notes when what lies behind a new version of an EndpointSlice happened, if that is known and new.
func (b bells) trigger(started time.Time, before, after any) {
	slice, ok := after.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	at := slice.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if old, ok := before.(*discoveryv1.EndpointSlice); ok && old.Annotations[corev1.EndpointsLastChangeTriggerTime] == at {
		return
	}
	if when, err := time.Parse(time.RFC3339Nano, at); err == nil && when.After(started) {
		b.services.trigger(serviceOf(slice), when)
	}
}

// watched is a kind that is watched, and what is to be called with each object that changed.
type watched struct {
	object  client.Object
	changed func(client.Object)
}

// watchOne calls changed with each object of a kind that changed.
func watchOne(ctx context.Context, informers cache.Cache, object client.Object, changed func(client.Object)) error {
	return watched{object, changed}.start(ctx, informers, func(any, any) {})
}

// start begins to watch. Before changed, it calls news with the version before, nil if there was none, and the new one.
func (w watched) start(ctx context.Context, informers cache.Cache, news func(before, after any)) error {
	object, changed := w.object, w.changed
	informer, err := informers.GetInformer(ctx, object)
	if err != nil {
		return fmt.Errorf("watch %T: %w", object, err)
	}
	_, err = informer.AddEventHandler(clientcache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			news(nil, o)
			changedObject(o, changed)
		},
		UpdateFunc: func(before, after any) {
			if sameVersion(before, after) {
				return // the list was read again
			}
			news(before, after)
			// A slice may pass from one Service to another: both change.
			changedObject(before, changed)
			changedObject(after, changed)
		},
		DeleteFunc: func(o any) {
			if tombstone, ok := o.(clientcache.DeletedFinalStateUnknown); ok {
				o = tombstone.Obj
			}
			changedObject(o, changed)
		},
	})
	if err != nil {
		return fmt.Errorf("watch %T: %w", object, err)
	}
	return nil
}

// sameVersion tells whether two objects are the same one at the same time.
func sameVersion(before, after any) bool {
	a, first := before.(client.Object)
	b, second := after.(client.Object)
	return first && second && a.GetUID() == b.GetUID() && a.GetResourceVersion() != "" && a.GetResourceVersion() == b.GetResourceVersion()
}

func changedObject(object any, changed func(client.Object)) {
	if o, ok := object.(client.Object); ok {
		changed(o)
	}
}

// scheme holds the kinds the speaker reads and writes.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("make the scheme: %w", err)
		}
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	return scheme, nil
}
