package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// newManager wires everything together.
func newManager(ctx context.Context, cfg *rest.Config, o options, log *slog.Logger) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions(),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddr},
		HealthProbeBindAddress:        o.probeAddr,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              fieldManager,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the controller: %w", err)
	}
	if err := knowsOurKinds(mgr.GetRESTMapper(), scheme); err != nil {
		return nil, err
	}
	services, err := mgr.GetCache().GetInformer(ctx, &corev1.Service{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	hostname, _ := os.Hostname()
	src := source{
		cache:        mgr.GetCache(),
		live:         mgr.GetAPIReader(),
		services:     storedServices(services),
		serviceCIDRs: servesServiceCIDRs(mgr.GetRESTMapper()),
		class:        o.class,
	}
	crier := newCrier(mgr.GetClient(), time.Now, log, hostname)
	r := &reconciler{
		source: src, client: mgr.GetClient(), clock: time.Now, log: log,
		metrics: newMetrics(ctrlmetrics.Registry), crier: crier, news: newNews(), counts: counts{}, memory: newMemory(),
	}
	key := &gossipKey{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: o.namespace, log: log}
	return mgr, errors.Join(watch(mgr, r), mgr.Add(crier), mgr.Add(key), addProbes(mgr))
}

// cacheOptions keep of each object what the controller reads.
func cacheOptions() cache.Options {
	shared := true
	return cache.Options{
		DefaultTransform:             cache.TransformStripManagedFields(),
		DefaultUnsafeDisableDeepCopy: &shared,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}: {Transform: stripService},
			&corev1.Node{}:    {Transform: stripNode},
		},
	}
}

func stripService(object any) (any, error) {
	if service, ok := object.(*corev1.Service); ok {
		strip(service)
	}
	return object, nil
}

func stripNode(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		node.ManagedFields, node.Annotations, node.Labels = nil, nil, nil
		node.Status = corev1.NodeStatus{Addresses: node.Status.Addresses}
		node.Spec = corev1.NodeSpec{PodCIDRs: node.Spec.PodCIDRs}
	}
	return object, nil
}

// storedServices reads Services straight from the informer's store: a list would copy them all for every pass.
func storedServices(informer cache.Informer) func() ([]*corev1.Service, error) {
	return func() ([]*corev1.Service, error) {
		shared, ok := informer.(toolscache.SharedIndexInformer)
		if !ok {
			return nil, fmt.Errorf("the cache of Services is a %T", informer)
		}
		objects := shared.GetStore().List()
		services := make([]*corev1.Service, 0, len(objects))
		for _, object := range objects {
			if service, ok := object.(*corev1.Service); ok {
				services = append(services, service)
			}
		}
		return services, nil
	}
}

// knowsOurKinds refuses an API server that lacks one of Fairlead's kinds: Helm brings CRDs when it installs a chart, not
// when it upgrades one, and a watch of such a kind would only time out.
func knowsOurKinds(mapper meta.RESTMapper, scheme *runtime.Scheme) error {
	var missing []string
	for kind := range scheme.KnownTypes(v1beta1.GroupVersion) {
		object, err := scheme.New(v1beta1.GroupVersion.WithKind(kind))
		if err != nil {
			return fmt.Errorf("make a %s: %w", kind, err)
		}
		if _, ok := object.(client.Object); !ok {
			continue // a list, or options
		}
		_, err = mapper.RESTMapping(v1beta1.GroupVersion.WithKind(kind).GroupKind(), v1beta1.GroupVersion.Version)
		if meta.IsNoMatchError(err) {
			missing = append(missing, kind)
			continue
		}
		if err != nil {
			return fmt.Errorf("ask the API server for %s: %w", kind, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the API server does not know %s: apply the CRDs of this version, which Helm does not upgrade "+
		"(kubectl apply --server-side -f charts/fairlead/crds)", strings.Join(missing, ", "))
}

// servesServiceCIDRs reports whether the API server has ServiceCIDR objects (Kubernetes 1.33 and later).
func servesServiceCIDRs(mapper meta.RESTMapper) bool {
	kind := networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR")
	_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	return err == nil
}

// watch lets everything that matters ring the one bell.
func watch(mgr ctrl.Manager, r *reconciler) error {
	c, err := controller.New("services", mgr, controller.Options{
		Reconciler:              r,
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 10*time.Second),
	})
	if err != nil {
		return fmt.Errorf("prepare the loop: %w", err)
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	errs := []error{
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &corev1.Service{}, bell(r.gather, anyChange[*corev1.Service]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.IPAddressPool{}, bell(r.gather, anyChange[*v1beta1.IPAddressPool]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.L2Advertisement{}, bell(r.gather, anyChange[*v1beta1.L2Advertisement]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.BGPPeer{}, bell(r.gather, anyChange[*v1beta1.BGPPeer]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.BGPAdvertisement{}, bell(r.gather, anyChange[*v1beta1.BGPAdvertisement]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.BFDProfile{}, bell(r.gather, anyChange[*v1beta1.BFDProfile]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.Community{}, bell(r.gather, anyChange[*v1beta1.Community]))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &v1beta1.Speaker{}, bell(r.gather, speakerChanged))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), &corev1.Node{}, bell(r.gather, nodeChanged))),
		c.Watch(ctrlsource.Kind(mgr.GetCache(), namespace, bell(r.gather, namespaceChanged))),
	}
	if r.source.serviceCIDRs {
		errs = append(errs, c.Watch(ctrlsource.Kind(mgr.GetCache(), &networkingv1.ServiceCIDR{}, bell(r.gather, anyChange[*networkingv1.ServiceCIDR]))))
	}
	return errors.Join(errs...)
}

// bell rings for the one key when an object comes, goes, or changes in a way that matters. It carries nothing.
func bell[T client.Object](gather func() time.Duration, matters func(old, new T) bool) handler.TypedFuncs[T, reconcile.Request] {
	ring := func(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		queue.AddAfter(reconcile.Request{}, gather())
	}
	return handler.TypedFuncs[T, reconcile.Request]{
		CreateFunc: func(_ context.Context, _ ctrlevent.TypedCreateEvent[T], queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			ring(queue)
		},
		UpdateFunc: func(_ context.Context, e ctrlevent.TypedUpdateEvent[T], queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if matters(e.ObjectOld, e.ObjectNew) {
				ring(queue)
			}
		},
		DeleteFunc: func(_ context.Context, _ ctrlevent.TypedDeleteEvent[T], queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			ring(queue)
		},
	}
}

func anyChange[T client.Object](old, new T) bool {
	return old.GetResourceVersion() != new.GetResourceVersion()
}

// nodeChanged ignores heartbeats.
func nodeChanged(old, new *corev1.Node) bool {
	return !slices.Equal(old.Status.Addresses, new.Status.Addresses) || !slices.Equal(old.Spec.PodCIDRs, new.Spec.PodCIDRs)
}

func namespaceChanged(old, new *metav1.PartialObjectMetadata) bool {
	return !reflect.DeepEqual(old.Labels, new.Labels)
}

// speakerChanged ignores what appears neither on Services nor on peers.
func speakerChanged(old, new *v1beta1.Speaker) bool {
	a, b := old.Status, new.Status
	return !reflect.DeepEqual(a.Addresses, b.Addresses) || !reflect.DeepEqual(a.Problems, b.Problems) ||
		!reflect.DeepEqual(a.Routes, b.Routes) || !reflect.DeepEqual(a.Members, b.Members) ||
		!slices.EqualFunc(a.Peers, b.Peers, func(x, y v1beta1.PeerSession) bool {
			return x.Name == y.Name && x.State == y.State && x.Reason == y.Reason
		})
}

// addProbes serves /healthz, and /readyz once the cache is filled.
func addProbes(mgr ctrl.Manager) error {
	synced := func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the cache is not filled yet")
		}
		return nil
	}
	return errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("cache", synced))
}
