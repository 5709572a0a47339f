package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// storage writes objects where the API server keeps them. Tens of thousands of Services take the API server many minutes
// to create; so it creates one, and the others are written as it wrote that one.
type storage struct {
	url   string
	codec *protobuf.Serializer
}

func newStorage() storage {
	return storage{"http://127.0.0.1:2379/v3/kv/", protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)}
}

// stored is an object with its place.
type stored struct {
	key    string
	object runtime.Object
}

// member are the objects that belong to one of the many Services: the API server keeps each ClusterIP's use, too.
func member(i int) (*corev1.Service, *discoveryv1.EndpointSlice, *networkingv1.IPAddress, []string) {
	svc, slice, ip := crowdService(i), crowdSlice(i), &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: crowdIP(i).String()}}
	return svc, slice, ip, []string{
		"/registry/services/specs/" + svc.Namespace + "/" + svc.Name,
		"/registry/endpointslices/" + slice.Namespace + "/" + slice.Name,
		"/registry/ipaddresses/" + ip.Name,
	}
}

// copies returns a function that makes one of the many Services out of what the API server made of the first.
func (s storage) copies(ctx context.Context) (func(i int) []stored, error) {
	var svc corev1.Service
	var slice discoveryv1.EndpointSlice
	var ip networkingv1.IPAddress
	_, _, _, keys := member(0)
	for i, into := range []runtime.Object{&svc, &slice, &ip} {
		if err := s.read(ctx, keys[i], into); err != nil {
			return nil, err
		}
	}
	return func(i int) []stored {
		wantSvc, wantSlice, wantIP, keys := member(i)
		a, b, c := svc.DeepCopy(), slice.DeepCopy(), ip.DeepCopy()
		a.Name, a.Labels, a.UID = wantSvc.Name, wantSvc.Labels, copyUID(a.UID, i)
		a.Spec.ClusterIP, a.Spec.ClusterIPs = wantSvc.Spec.ClusterIP, wantSvc.Spec.ClusterIPs
		b.Name, b.GenerateName, b.Labels, b.UID = wantSlice.Name, wantSlice.GenerateName, wantSlice.Labels, copyUID(b.UID, i)
		b.Annotations, b.OwnerReferences, b.Endpoints = wantSlice.Annotations, wantSlice.OwnerReferences, wantSlice.Endpoints
		c.Name, c.UID = wantIP.Name, copyUID(c.UID, i)
		c.Spec.ParentRef.Name = wantSvc.Name
		return []stored{{keys[0], a}, {keys[1], b}, {keys[2], c}}
	}, nil
}

// copyUID ends a UID with a number.
func copyUID(of types.UID, i int) types.UID {
	const digits = 12
	return types.UID(fmt.Sprintf("%s%0*d", of[:len(of)-digits], digits, i))
}

func (s storage) read(ctx context.Context, key string, into runtime.Object) error {
	var found struct {
		KVs []struct{ Value []byte }
	}
	if err := s.ask(ctx, "range", map[string]any{"key": []byte(key)}, &found); err != nil {
		return err
	}
	if len(found.KVs) != 1 {
		return fmt.Errorf("read %s: the store has %d of it", key, len(found.KVs))
	}
	if _, _, err := s.codec.Decode(found.KVs[0].Value, nil, into); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// write puts objects into one transaction, each of another kind: what the API server tells of a kind has versions of its own.
func (s storage) write(ctx context.Context, objects []stored) error {
	var puts []any
	for _, o := range objects {
		kinds, _, err := scheme.Scheme.ObjectKinds(o.object)
		if err != nil {
			return fmt.Errorf("write %s: %w", o.key, err)
		}
		var raw bytes.Buffer
		if err := encoder(s.codec, kinds[0]).Encode(o.object, &raw); err != nil {
			return fmt.Errorf("write %s: %w", o.key, err)
		}
		puts = append(puts, map[string]any{"requestPut": map[string]any{"key": []byte(o.key), "value": raw.Bytes()}})
	}
	return s.ask(ctx, "txn", map[string]any{"success": puts}, nil)
}

// encoder writes the kind into the object, too.
func encoder(codec *protobuf.Serializer, kind schema.GroupVersionKind) runtime.Encoder {
	return runtime.WithVersionEncoder{Version: kind.GroupVersion(), Encoder: codec, ObjectTyper: scheme.Scheme}
}

// ask calls etcd.
func (s storage) ask(ctx context.Context, what string, request any, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+what, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	response, err := http.DefaultClient.Do(post)
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask etcd for %s: %s: %s", what, response.Status, text.String())
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text.Bytes(), answer); err != nil {
		return fmt.Errorf("read etcd's answer: %w", err)
	}
	return nil
}

// fill creates the crowd's Services from one number up to another, and waits until the API server knows the last.
func (p *plane) fill(ctx context.Context, from, to int) error {
	if from == 0 {
		if err := p.create(ctx, crowdService(0), crowdSlice(0)); err != nil {
			return err
		}
	}
	store := newStorage()
	copies, err := store.copies(ctx)
	if err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := max(from, 1); i < to; i++ {
		group.Go(func() error { return store.write(inner, copies(i)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return eventually(ctx, time.Minute, "the API server knows all Services", func() error {
		_, err := p.client.CoreV1().Services(crowdNamespace).Get(ctx, crowdName(to-1), metav1.GetOptions{ResourceVersion: "0"})
		if err == nil {
			_, err = p.client.DiscoveryV1().EndpointSlices(crowdNamespace).Get(ctx, crowdSlice(to-1).Name, metav1.GetOptions{ResourceVersion: "0"})
		}
		return err
	})
}
