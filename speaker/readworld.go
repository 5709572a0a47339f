package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// toBeDeleted is the taint of a node that the cluster autoscaler is about to remove.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Snapshot is what the announcements depend on, but for gossip, as plain values
// that can be written to disk: see memory.
type Snapshot struct {
	Address  netip.Addr                // of this node: where gossip binds
	Peers    []netip.Addr              // the nodes of the other speakers, sorted
	Pools    []v1beta1.IPAddressPool   // without status
	L2       []v1beta1.L2Advertisement // without status
	Nodes    []Node                    // sorted by name
	Services []Service                 // that have addresses of ours, or others to announce, sorted by key

	Addresses   []netip.Addr // of this node, in the order of its status
	Routers     []v1beta1.BGPPeer
	BGP         []v1beta1.BGPAdvertisement
	Profiles    []v1beta1.BFDProfile
	Communities []v1beta1.Community
}

// world returns the world without members. Problems of what users wrote are the controller's to report.
func (s Snapshot) world(node string) World {
	w := World{Node: node, Nodes: s.Nodes, Services: s.Services, Addresses: s.Addresses}
	w.Config, _ = config.Read(config.Objects{
		Pools: s.Pools, L2: s.L2, Peers: s.Routers, BGP: s.BGP, Profiles: s.Profiles, Communities: s.Communities,
	})
	return w
}

// snapshot reads all that the announcements depend on.
func (r *reader) snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	var pools v1beta1.IPAddressPoolList
	var advertisements v1beta1.L2AdvertisementList
	var nodes corev1.NodeList
	if err := r.listAll(ctx, &pools, &advertisements, &nodes); err != nil {
		return s, err
	}
	for _, pool := range pools.Items {
		kept := v1beta1.IPAddressPool{ObjectMeta: nameAndLabels(&pool), Spec: pool.Spec}
		kept.DeletionTimestamp = pool.DeletionTimestamp
		s.Pools = append(s.Pools, kept)
	}
	for _, l2 := range advertisements.Items {
		s.L2 = append(s.L2, v1beta1.L2Advertisement{ObjectMeta: nameAndLabels(&l2), Spec: l2.Spec})
	}
	for i := range nodes.Items {
		s.Nodes = append(s.Nodes, readNode(&nodes.Items[i], r.ignoreExclude))
		if own := nodeAddresses(&nodes.Items[i]); nodes.Items[i].Name == r.node && len(own) > 0 {
			s.Address, s.Addresses = own[0], own
		}
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	if err := r.readRouting(ctx, &s); err != nil {
		return s, err
	}
	kinds := announcedKinds(s.BGP)
	all := kinds[v1beta1.AddressCluster] || kinds[v1beta1.AddressExternal]
	r.addressed.include(all)
	services, err := r.services(ctx)
	if err != nil {
		return s, err
	}
	if s.Services, err = r.readServices(ctx, services, kinds); err != nil {
		return s, err
	}
	slices.SortFunc(s.Services, func(a, b Service) int { return strings.Compare(a.Key, b.Key) })
	s.Peers, err = r.peers(ctx)
	return s, err
}

// services returns all Services of the cache; they must not be changed.
func (r *reader) services(ctx context.Context) ([]*corev1.Service, error) {
	if r.stored != nil {
		return r.stored(), nil
	}
	var list corev1.ServiceList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the Services: %w", err)
	}
	services := make([]*corev1.Service, len(list.Items))
	for i := range list.Items {
		services[i] = &list.Items[i]
	}
	return services, nil
}

// readServices reads those Services that have something to announce, in no order. What depends on the object alone is
// read once for each of its versions: the cache has another object for each.
func (r *reader) readServices(ctx context.Context, services []*corev1.Service, kinds map[v1beta1.AddressKind]bool) ([]Service, error) {
	found := make([]Service, 0, len(r.readings))
	readings := make(map[*corev1.Service]Service, len(r.readings))
	for _, svc := range services {
		service, known := r.readings[svc]
		if !known || len(kinds) > 0 {
			var err error
			if service, err = r.readService(ctx, svc, kinds); err != nil {
				return nil, err
			}
		}
		if len(service.Addresses)+len(service.ClusterIPs)+len(service.ExternalIPs) == 0 {
			continue
		}
		found = append(found, service)
		if len(kinds) == 0 && !service.Local {
			readings[svc] = service
		}
	}
	r.readings = readings
	return found, nil
}

// listAll fills the lists; one of a kind that the API server does not serve stays empty.
func (r *reader) listAll(ctx context.Context, lists ...client.ObjectList) error {
	for _, list := range lists {
		if r.kinds.lacks(list) {
			continue
		}
		if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	return nil
}

func nameAndLabels(object client.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: object.GetName(), Labels: object.GetLabels()}
}

func (r *reader) readService(ctx context.Context, svc *corev1.Service, kinds map[v1beta1.AddressKind]bool) (Service, error) {
	service := Service{Addresses: config.Addresses(svc)}
	if kinds[v1beta1.AddressCluster] {
		service.ClusterIPs = parseAddresses(svc.Spec.ClusterIPs)
	}
	if kinds[v1beta1.AddressExternal] {
		service.ExternalIPs = parseAddresses(svc.Spec.ExternalIPs)
	}
	if len(service.Addresses)+len(service.ClusterIPs)+len(service.ExternalIPs) == 0 {
		return service, nil
	}
	service.Key = client.ObjectKeyFromObject(svc).String()
	service.Labels = labels.Set(svc.Labels)
	service.Local = svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	service.InternalLocal = len(service.ClusterIPs) > 0 && svc.Spec.InternalTrafficPolicy != nil &&
		*svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	if !service.Local && !service.InternalLocal && len(kinds) == 0 {
		return service, nil
	}
	found, err := r.slicesOf(ctx, client.ObjectKeyFromObject(svc))
	if err != nil {
		return service, err
	}
	on, some := endpointsOn(found)
	service.HasEndpoints = some
	if service.Local || service.InternalLocal {
		service.EndpointsOn = on
	}
	return service, nil
}

// endpointsOn returns the nodes with a ready endpoint; if there is none at all, those with one that is terminating and
// still serving (KEP-1669). some tells whether there is such an endpoint, also one without a node.
func endpointsOn(found []*discoveryv1.EndpointSlice) (on map[string]bool, some bool) {
	ready, serving := map[string]bool{}, map[string]bool{}
	anyReady, anyServing := false, false
	for _, slice := range found {
		for _, endpoint := range slice.Endpoints {
			c := endpoint.Conditions
			into := ready
			switch {
			case c.Ready == nil || *c.Ready:
				anyReady = true
			case (c.Serving == nil || *c.Serving) && c.Terminating != nil && *c.Terminating:
				anyServing, into = true, serving
			default:
				continue
			}
			if endpoint.NodeName != nil {
				into[*endpoint.NodeName] = true
			}
		}
	}
	if len(ready) > 0 {
		return ready, true
	}
	return serving, anyReady || anyServing
}

// readNode says what a node's labels, taints and conditions mean for announcing.
func readNode(node *corev1.Node, ignoreExclude bool) Node {
	n := Node{Name: node.Name, Labels: labels.Set(node.Labels)}
	if _, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]; excluded && !ignoreExclude {
		n.Excluded = "the node has the label " + corev1.LabelNodeExcludeBalancers
	}
	if node.Spec.Unschedulable {
		n.Leaving = "the node is cordoned"
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == toBeDeleted {
			n.Leaving = "the node has the taint " + toBeDeleted
		}
	}
	n.Reluctant = n.Leaving
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
