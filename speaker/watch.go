package main

import (
	"context"
	"fmt"

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
)

// speakerLabels are on every speaker pod.
var speakerLabels = labels.Set{
	"app.kubernetes.io/name":      "fairlead",
	"app.kubernetes.io/component": "speaker",
}

// bells are what the watches ring.
type bells struct {
	services *dirty        // Services to translate again
	world    chan struct{} // what all translations depend on
	announce chan struct{} // what the announcements by Layer 2 depend on
	peers    chan struct{} // what the routes depend on
}

// configured rings for a change of what users wrote about announcing.
func (b bells) configured(client.Object) {
	ring(b.announce)
	ring(b.peers)
}

// cacheOptions keep out of memory what the speaker never reads.
func cacheOptions(namespace, node string) (cache.Options, error) {
	notHeadless, err := labels.NewRequirement(corev1.IsHeadlessService, selection.DoesNotExist, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("select EndpointSlices: %w", err)
	}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&discoveryv1.EndpointSlice{}: {Label: labels.NewSelector().Add(*notHeadless)},
			&corev1.Node{}:               {Transform: stripNode},
			&v1beta1.Speaker{}:           {Field: fields.OneTermEqualSelector("metadata.name", node)}, // the one it writes
			&corev1.Pod{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Label:      labels.SelectorFromSet(speakerLabels),
				Transform:  stripPod,
			},
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}, Transform: stripSecret},
		},
	}, nil
}

// stripNode keeps the labels, taints, pod CIDRs, addresses and conditions.
func stripNode(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		node.ManagedFields = nil
		node.Annotations = nil
		node.Status.Images = nil
		node.Status.VolumesInUse = nil
		node.Status.VolumesAttached = nil
	}
	return object, nil
}

// stripPod keeps where a speaker runs.
func stripPod(object any) (any, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		pod.ManagedFields = nil
		pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName}
	}
	return object, nil
}

// indexSlices makes EndpointSlices findable by their Service.
func indexSlices(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, byService, func(object client.Object) []string {
		return []string{serviceOf(object)}
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices by Service: %w", err)
	}
	return nil
}

// serviceOf returns "namespace/name" of the Service a slice belongs to.
func serviceOf(slice client.Object) string {
	return slice.GetNamespace() + "/" + slice.GetLabels()[discoveryv1.LabelServiceName]
}

// watchAll starts the watches of what every API server serves and wires each to the bells it rings.
func watchAll(ctx context.Context, informers cache.Cache, b bells, serviceCIDRs bool) error {
	world := func(client.Object) { ring(b.world); ring(b.announce); ring(b.peers) }
	announce := b.configured
	layer2 := func(client.Object) { ring(b.announce) }
	watches := []struct {
		object  client.Object
		changed func(client.Object)
	}{
		{&corev1.Service{}, func(o client.Object) {
			b.services.add(client.ObjectKeyFromObject(o).String())
			announce(o)
		}},
		{&discoveryv1.EndpointSlice{}, func(o client.Object) {
			key := serviceOf(o)
			b.services.add(key)
			if key == "default/kubernetes" {
				ring(b.world)
			}
			announce(o)
		}},
		{&corev1.Node{}, world},
		{&corev1.Pod{}, layer2},
	}
	for _, w := range watches {
		if err := watch(ctx, informers, w.object, w.changed); err != nil {
			return err
		}
	}
	if serviceCIDRs {
		return watch(ctx, informers, &networkingv1.ServiceCIDR{}, world)
	}
	return nil
}

func watch(ctx context.Context, informers cache.Cache, object client.Object, changed func(client.Object)) error {
	informer, err := informers.GetInformer(ctx, object)
	if err != nil {
		return fmt.Errorf("watch %T: %w", object, err)
	}
	_, err = informer.AddEventHandler(clientcache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { changedObject(o, changed) },
		UpdateFunc: func(before, after any) {
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
