package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

func fatSlice() *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-abc", ResourceVersion: "7", GenerateName: "web-",
		Labels:          map[string]string{discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "somebody", "app": "web"},
		Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z", "other": "text"},
		OwnerReferences: []metav1.OwnerReference{{Name: "web"}},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "somebody"}},
	}}
	for _, address := range []string{"10.244.0.1", "10.244.0.2"} {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address}, Hostname: ptr("h"), NodeName: ptr("node1"), Zone: ptr("zone1"),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Terminating: ptr(false)},
			TargetRef:  &corev1.ObjectReference{Name: "pod"}, DeprecatedTopology: map[string]string{"a": "b"},
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone1"}}},
		})
	}
	return slice
}

// What the translation reads stays, the rest goes, and stripping twice is stripping once.
func TestStripSlice(t *testing.T) {
	want := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-abc", ResourceVersion: "7",
		Labels:      map[string]string{discoveryv1.LabelServiceName: "web"},
		Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z"},
	}}
	for _, e := range fatSlice().Endpoints {
		e.Hostname, e.TargetRef, e.DeprecatedTopology = nil, nil, nil
		want.Endpoints = append(want.Endpoints, e)
	}
	s, got := newSliceStripper(), fatSlice()
	for range 2 {
		if _, err := s.strip(got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stripped (-want +got):\n%s", diff)
		}
	}
	if got.Endpoints[0].NodeName != got.Endpoints[1].NodeName {
		t.Error("two endpoints on a node have two copies of its name")
	}
}

// A trigger is noted once, with the Service that it is about, and not if it is older than the speaker.
func TestTriggers(t *testing.T) {
	b := bells{services: newDirty()}
	started := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before, after := fatSlice(), fatSlice()
	before.Annotations = nil
	b.trigger(started, before, after)
	b.trigger(started, after, after)
	b.trigger(started.AddDate(1, 0, 0), nil, after)
	if _, triggers := b.services.take(); triggers != nil {
		t.Errorf("triggers %v of a Service that is not marked", triggers)
	}
	b.services.add("shop/web")
	keys, triggers := b.services.take()
	if diff := cmp.Diff([]string{"shop/web"}, keys); diff != "" {
		t.Errorf("marked (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]time.Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, triggers); diff != "" {
		t.Errorf("triggers (-want +got):\n%s", diff)
	}
}
