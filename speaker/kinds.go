package main

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// kinds knows which of Fairlead's own kinds the API server serves. Helm brings CRDs when it installs a chart, not when it
// upgrades one, so a new speaker can meet an API server that lacks some: it then does without them, because services
// must be forwarded, and says so.
type kinds struct {
	mu      sync.Mutex
	missing []string // sorted
}

// ourKinds are those of Fairlead's kinds that users write.
func ourKinds() []client.Object {
	return []client.Object{
		&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{},
		&v1beta1.BGPPeer{}, &v1beta1.BGPAdvertisement{}, &v1beta1.BFDProfile{}, &v1beta1.Community{},
	}
}

// kindOf is the kind of an object, or of the objects of a list.
func kindOf(object any) string {
	return strings.TrimSuffix(reflect.TypeOf(object).Elem().Name(), "List")
}

// lacks tells whether the API server serves no objects like those of the list.
func (k *kinds) lacks(list client.ObjectList) bool {
	if k == nil { // nobody asked
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.missing, kindOf(list))
}

// lacking returns the kinds the API server does not serve, sorted.
func (k *kinds) lacking() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.missing)
}

// ask finds out which kinds the API server serves.
func (k *kinds) ask(mapper meta.RESTMapper) error {
	var missing []string
	for _, object := range ourKinds() {
		served, err := serves(mapper, v1beta1.GroupVersion.WithKind(kindOf(object)))
		if err != nil {
			return err
		}
		if !served {
			missing = append(missing, kindOf(object))
		}
	}
	slices.Sort(missing)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missing = missing
	return nil
}

// watchServed watches the kinds that are served.
func (k *kinds) watchServed(ctx context.Context, informers cache.Cache, changed func(client.Object)) error {
	missing := k.lacking()
	for _, object := range ourKinds() {
		if slices.Contains(missing, kindOf(object)) {
			continue
		}
		if err := watchOne(ctx, informers, object, changed); err != nil {
			return err
		}
	}
	return nil
}

// kindsAgain is how long to wait before the API server is asked again for kinds that it lacks.
const kindsAgain = 10 * time.Second

// await watches the missing kinds as they appear, and returns when there is none left or ctx ends.
func (k *kinds) await(ctx context.Context, log *slog.Logger, mapper meta.RESTMapper, informers cache.Cache, changed func(client.Object)) error {
	tick := time.NewTicker(kindsAgain)
	defer tick.Stop()
	for len(k.lacking()) > 0 {
		log.Warn("the API server lacks kinds of this version", "kinds", k.lacking(), "remedy", crdRemedy)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := k.watchNew(ctx, mapper, informers, changed); err != nil {
			log.Warn("watch a new kind", "error", err)
		}
	}
	return nil
}

// watchNew watches those of the missing kinds that are served now.
func (k *kinds) watchNew(ctx context.Context, mapper meta.RESTMapper, informers cache.Cache, changed func(client.Object)) error {
	for _, object := range ourKinds() {
		if !slices.Contains(k.lacking(), kindOf(object)) {
			continue
		}
		served, err := serves(mapper, v1beta1.GroupVersion.WithKind(kindOf(object)))
		if err != nil {
			return err
		}
		if !served {
			continue
		}
		if err := watchOne(ctx, informers, object, changed); err != nil {
			return err
		}
		k.mu.Lock()
		k.missing = slices.DeleteFunc(k.missing, func(kind string) bool { return kind == kindOf(object) })
		k.mu.Unlock()
		changed(object)
	}
	return nil
}

// crdRemedy is what to do about kinds that are missing.
const crdRemedy = "kubectl apply --server-side -f charts/fairlead/crds (Helm does not upgrade CRDs)"
