package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// toBeDeleted is the taint of a node that the cluster autoscaler is about to remove.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// world reads what the announcements depend on, but for the members: they are
// the caller's to add. Problems of what users wrote are the controller's to report.
func (r *reader) world(ctx context.Context) (World, error) {
	w := World{Node: r.node}
	var pools v1beta1.IPAddressPoolList
	var advertisements v1beta1.L2AdvertisementList
	var nodes corev1.NodeList
	var services corev1.ServiceList
	for _, list := range []client.ObjectList{&pools, &advertisements, &nodes, &services} {
		if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return w, fmt.Errorf("list %T: %w", list, err)
		}
	}
	w.Config, _ = config.Read(config.Objects{Pools: pools.Items, L2: advertisements.Items})
	for i := range nodes.Items {
		w.Nodes = append(w.Nodes, readNode(&nodes.Items[i], r.ignoreExclude))
	}
	slices.SortFunc(w.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	for i := range services.Items {
		service, err := r.readService(ctx, &services.Items[i])
		if err != nil {
			return w, err
		}
		if len(service.Addresses) > 0 {
			w.Services = append(w.Services, service)
		}
	}
	slices.SortFunc(w.Services, func(a, b Service) int { return strings.Compare(a.Key, b.Key) })
	return w, nil
}

func (r *reader) readService(ctx context.Context, svc *corev1.Service) (Service, error) {
	service := Service{
		Key:       client.ObjectKeyFromObject(svc).String(),
		Addresses: config.Addresses(svc),
	}
	if len(service.Addresses) == 0 {
		return service, nil
	}
	service.Labels = labels.Set(svc.Labels)
	service.Local = svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if !service.Local {
		return service, nil
	}
	found, err := r.slicesOf(ctx, client.ObjectKeyFromObject(svc))
	if err != nil {
		return service, err
	}
	service.EndpointsOn = endpointsOn(found)
	return service, nil
}

// endpointsOn returns the nodes with a ready endpoint; if there is none at all,
// those with one that is terminating and still serving (KEP-1669).
func endpointsOn(found []*discoveryv1.EndpointSlice) map[string]bool {
	ready, serving := map[string]bool{}, map[string]bool{}
	for _, slice := range found {
		for _, endpoint := range slice.Endpoints {
			c := endpoint.Conditions
			switch {
			case endpoint.NodeName == nil:
			case c.Ready == nil || *c.Ready:
				ready[*endpoint.NodeName] = true
			case (c.Serving == nil || *c.Serving) && c.Terminating != nil && *c.Terminating:
				serving[*endpoint.NodeName] = true
			}
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return serving
}

// readNode says what a node's labels, taints and conditions mean for announcing.
func readNode(node *corev1.Node, ignoreExclude bool) Node {
	n := Node{Name: node.Name, Labels: labels.Set(node.Labels)}
	if _, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]; excluded && !ignoreExclude {
		n.Excluded = "the node has the label " + corev1.LabelNodeExcludeBalancers
	}
	if node.Spec.Unschedulable {
		n.Reluctant = "the node is cordoned"
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == toBeDeleted {
			n.Reluctant = "the node has the taint " + toBeDeleted
		}
	}
	for _, condition := range node.Status.Conditions {
		switch {
		case condition.Type == corev1.NodeNetworkUnavailable && condition.Status == corev1.ConditionTrue:
			n.Excluded = "the network of the node is not available: " + condition.Message
		case condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue:
			n.Reluctant = "the node is not ready"
		}
	}
	return n
}

// peers returns the addresses of the other speakers' nodes, sorted: where gossip finds them.
func (r *reader) peers(ctx context.Context) ([]netip.Addr, error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the speaker pods: %w", err)
	}
	var found []netip.Addr
	for _, pod := range pods.Items {
		addr, err := netip.ParseAddr(pod.Status.HostIP)
		if err != nil || pod.Spec.NodeName == r.node {
			continue
		}
		found = append(found, addr.Unmap())
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found), nil
}
