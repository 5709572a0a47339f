package main

import (
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/config"
)

// patch returns a change as a strategic merge patch of the Service's status. It carries the resource version the change
// was decided on, so that the API server refuses it if the Service has changed since.
func (c serviceChange) patch() ([]byte, error) {
	metadata := map[string]any{"resourceVersion": c.service.ResourceVersion, "uid": c.service.UID}
	if c.from != nil {
		annotations := map[string]any{config.AllocatedFrom: *c.from}
		if *c.from == "" {
			annotations[config.AllocatedFrom] = nil
		}
		metadata["annotations"] = annotations
	}
	status := map[string]any{}
	if c.ingress != nil {
		status["loadBalancer"] = map[string]any{"ingress": ingressOf(*c.ingress)}
	}
	var conditions []any
	for _, condition := range c.set {
		conditions = append(conditions, condition)
	}
	for _, kind := range c.drop {
		conditions = append(conditions, map[string]string{"$patch": "delete", "type": kind})
	}
	if len(conditions) > 0 {
		status["conditions"] = conditions
	}
	body, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	if err != nil {
		return nil, fmt.Errorf("write the patch of Service %s/%s: %w", c.service.Namespace, c.service.Name, err)
	}
	return body, nil
}

// ingressOf returns addresses as a status shows them; nil, which deletes the field, if there are none.
func ingressOf(addrs []netip.Addr) []corev1.LoadBalancerIngress {
	var ingress []corev1.LoadBalancerIngress
	for _, addr := range addrs {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: addr.String()})
	}
	return ingress
}

// applied returns the Service as it should be after the change.
func (c serviceChange) applied() *corev1.Service {
	service := c.service.DeepCopy()
	if c.ingress != nil {
		service.Status.LoadBalancer.Ingress = ingressOf(*c.ingress)
		service.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: fieldManager, Subresource: "status"}}
	}
	if c.from != nil {
		delete(service.Annotations, config.AllocatedFrom)
		if *c.from != "" {
			metav1.SetMetaDataAnnotation(&service.ObjectMeta, config.AllocatedFrom, *c.from)
		}
	}
	for _, condition := range c.set {
		meta.SetStatusCondition(&service.Status.Conditions, condition)
	}
	for _, kind := range c.drop {
		meta.RemoveStatusCondition(&service.Status.Conditions, kind)
	}
	return service
}
