package main

import (
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is not read is taken out of objects before they enter the cache: it is
// the larger part of them, and of the speaker's memory.

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

// stripService keeps all but who wrote it, what selects its pods, and the annotations of others.
func stripService(object any) (any, error) {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return object, nil
	}
	stripMeta(&svc.ObjectMeta, func(key string) bool {
		return strings.HasPrefix(key, "fairlead.dev/") || strings.HasPrefix(key, "metallb.")
	})
	svc.Spec.Selector = nil
	return object, nil
}

// stripMeta keeps the labels, and the annotations that are wanted.
func stripMeta(m *metav1.ObjectMeta, annotation func(key string) bool) {
	m.ManagedFields, m.OwnerReferences, m.Finalizers, m.GenerateName = nil, nil, nil, ""
	for key := range m.Annotations {
		if !annotation(key) {
			delete(m.Annotations, key)
		}
	}
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
}

// sliceStripper keeps of EndpointSlices what a service proxy reads, and what
// many have in common only once.
type sliceStripper struct {
	mu    sync.Mutex
	texts map[string]*string // names of nodes and zones
	// The conditions' values; nobody writes through a pointer in the cache.
	yes, no bool
}

func newSliceStripper() *sliceStripper {
	return &sliceStripper{texts: map[string]*string{}, yes: true}
}

// strip is a transform of the cache. It may see an object twice.
func (s *sliceStripper) strip(object any) (any, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return object, nil
	}
	stripMeta(&slice.ObjectMeta, func(key string) bool { return key == corev1.EndpointsLastChangeTriggerTime })
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: slice.Labels[discoveryv1.LabelServiceName]}
	slice.Endpoints = slices.Clip(slices.Clone(slice.Endpoints))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		e.Hostname, e.TargetRef, e.DeprecatedTopology = nil, nil, nil
		e.NodeName, e.Zone = s.share(e.NodeName), s.share(e.Zone)
		for _, condition := range []**bool{&e.Conditions.Ready, &e.Conditions.Serving, &e.Conditions.Terminating} {
			*condition = s.shareBool(*condition)
		}
	}
	return object, nil
}

// share returns the one copy of a text. There are no more than nodes and zones, so none is ever forgotten.
func (s *sliceStripper) share(text *string) *string {
	if text == nil {
		return nil
	}
	one, ok := s.texts[*text]
	if !ok {
		one = text
		s.texts[*text] = one
	}
	return one
}

func (s *sliceStripper) shareBool(is *bool) *bool {
	switch {
	case is == nil:
		return nil
	case *is:
		return &s.yes
	}
	return &s.no
}
