package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/forward"
	"github.com/fairlead/fairlead/speaker/links"
	"github.com/fairlead/fairlead/speaker/nft"
)

// byService is the cache's index of EndpointSlices: "namespace/name" of their Service.
const byService = "service"

// reader is the one place that reads Kubernetes objects for the speaker. It
// reads from the cache, so it never blocks on the API server.
type reader struct {
	client       client.Reader
	node         string
	namespace    string
	clusterCIDRs []netip.Prefix
	nodePorts    nodePortAddresses
	apiServer    []netip.AddrPort
	reserved     map[uint16]bool
	serviceCIDRs bool // whether the API server serves ServiceCIDR objects (Kubernetes 1.33)
	local        func() ([]links.Link, error)
	addressed    *names // is told whether all Services matter to the announcements
	// ignoreExclude announces also from nodes that are excluded from external load balancers.
	ignoreExclude bool
	kinds         *kinds // nil: all are served
	answerEcho    bool   // whether announced addresses are pinged
	// stored returns all Services of the cache without a copy; nil: client lists them.
	stored func() []*corev1.Service
	// readings are what Services of the last snapshot mean that nothing else has a say in.
	readings map[*corev1.Service]Service
}

// environment is what the translations and the rules need to know of this node and its cluster.
type environment struct {
	Node   forward.Node
	Static nft.Static
	Nodes  []netip.Addr // of all nodes
	// Eligible is false while the node is being deleted (KEP-3836).
	Eligible bool
	// NodePortsRestricted tells that node ports, and so health checks, answer on some addresses only.
	NodePortsRestricted bool
}

// sameForServices tells whether translations made in e hold in other.
func (e environment) sameForServices(other environment) bool {
	a, b := e.Node, other.Node
	return a.Name == b.Name && a.Zone == b.Zone &&
		slices.Equal(a.Addresses, b.Addresses) &&
		slices.Equal(a.Peers, b.Peers) &&
		slices.Equal(a.PodCIDRs, b.PodCIDRs) &&
		slices.Equal(a.ServiceCIDRs, b.ServiceCIDRs) &&
		slices.Equal(a.Protected, b.Protected) &&
		maps.Equal(a.ReservedPorts, b.ReservedPorts) &&
		maps.Equal(a.Dead, b.Dead)
}

// environment reads this node and its cluster. Dead is left for the caller.
func (r *reader) environment(ctx context.Context) (environment, error) {
	var node corev1.Node
	if err := r.client.Get(ctx, types.NamespacedName{Name: r.node}, &node); err != nil {
		return environment{}, fmt.Errorf("get node %s: %w", r.node, err)
	}
	services, err := r.readServiceCIDRs(ctx)
	if err != nil {
		return environment{}, err
	}
	protected, err := r.readAPIServer(ctx)
	if err != nil {
		return environment{}, err
	}
	pods := r.clusterCIDRs
	if len(pods) == 0 {
		pods = prefixes(node.Spec.PodCIDRs)
	}
	local, err := r.local()
	if err != nil {
		return environment{}, err
	}
	addresses := addressesOf(local)
	nodes, err := r.allNodeAddresses(ctx)
	if err != nil {
		return environment{}, err
	}
	return environment{
		Node: forward.Node{
			Name: r.node, Zone: node.Labels[corev1.LabelTopologyZone],
			Addresses: addresses, Peers: nodes, PodCIDRs: pods, ServiceCIDRs: services,
			Protected: protected, ReservedPorts: r.reserved,
		},
		Static: nft.Static{
			PodCIDRs: pods, ServiceCIDRs: services,
			NodePortAddresses: r.nodePorts.choose(nodeAddresses(&node), local),
			AnswerEcho:        r.answerEcho,
		},
		Nodes:               nodes,
		Eligible:            eligible(&node),
		NodePortsRestricted: true, // primary addresses or some CIDRs: never all
	}, nil
}

// eligible tells whether load balancers outside may send traffic to a node.
func eligible(node *corev1.Node) bool {
	return node.DeletionTimestamp == nil &&
		!slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == toBeDeleted })
}

func (r *reader) allNodeAddresses(ctx context.Context) ([]netip.Addr, error) {
	var list corev1.NodeList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var found []netip.Addr
	for i := range list.Items {
		found = append(found, nodeAddresses(&list.Items[i])...)
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return found, nil
}

func (r *reader) readServiceCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	if !r.serviceCIDRs {
		return nil, nil
	}
	var list networkingv1.ServiceCIDRList
	if err := r.client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list ServiceCIDRs: %w", err)
	}
	var cidrs []string
	for _, item := range list.Items {
		cidrs = append(cidrs, item.Spec.CIDRs...)
	}
	return prefixes(cidrs), nil
}

// readAPIServer returns the sockets of the API server, which no Service may capture.
func (r *reader) readAPIServer(ctx context.Context) ([]netip.AddrPort, error) {
	var own corev1.Service
	name := types.NamespacedName{Namespace: "default", Name: "kubernetes"}
	if err := r.client.Get(ctx, name, &own); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("get Service %s: %w", name, err)
	}
	sockets := withoutClusterIPs(r.apiServer, &own)
	found, err := r.slicesOf(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, slice := range found {
		for _, port := range slice.Ports {
			if port.Port == nil {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				for _, text := range endpoint.Addresses {
					if addr, err := netip.ParseAddr(text); err == nil {
						sockets = append(sockets, netip.AddrPortFrom(addr, uint16(*port.Port)))
					}
				}
			}
		}
	}
	slices.SortFunc(sockets, netip.AddrPort.Compare)
	return slices.Compact(sockets), nil
}

// withoutClusterIPs leaves out the sockets at a Service's own ClusterIPs. A pod
// is told that the API server is there, but no machine is: that address is the Service's to have.
func withoutClusterIPs(sockets []netip.AddrPort, svc *corev1.Service) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(sockets), func(s netip.AddrPort) bool {
		return slices.ContainsFunc(svc.Spec.ClusterIPs, func(text string) bool {
			addr, err := netip.ParseAddr(text)
			return err == nil && addr == s.Addr()
		})
	})
}

func (r *reader) slicesOf(ctx context.Context, service types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.client.List(ctx, &list, client.MatchingFields{byService: service.String()}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the EndpointSlices of Service %s: %w", service, err)
	}
	found := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		found[i] = &list.Items[i]
	}
	return found, nil
}

// serviceKeys returns the names of all Services.
func (r *reader) serviceKeys(ctx context.Context) ([]string, error) {
	var list corev1.ServiceList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	keys := make([]string, len(list.Items))
	for i := range list.Items {
		keys[i] = client.ObjectKeyFromObject(&list.Items[i]).String()
	}
	return keys, nil
}

// translation is what one Service asks of this node.
type translation struct {
	forward.Result
	// Balancers are the addresses a load balancer gave the Service.
	Balancers []netip.Addr
}

// pinged are the addresses that answer pings: those of a Service that somebody serves.
func (t translation) pinged() []netip.Addr {
	if t.Summary.Ready+t.Summary.Serving == 0 {
		return nil
	}
	return t.Balancers
}

// translate reads one Service and says what it asks; a Service that is gone asks nothing.
func (r *reader) translate(ctx context.Context, key string, node forward.Node) (translation, error) {
	name := splitKey(key)
	svc := &corev1.Service{}
	err := r.client.Get(ctx, name, svc)
	if apierrors.IsNotFound(err) {
		return translation{Result: forward.Service(nil, nil, node, nft.Random)}, nil
	}
	if err != nil {
		return translation{}, fmt.Errorf("get Service %s: %w", key, err)
	}
	found, err := r.slicesOf(ctx, name)
	if err != nil {
		return translation{}, err
	}
	how, problems := pick(svc)
	result := forward.Service(svc, found, node, how)
	result.Reasons = append(result.Reasons, problems...)
	return translation{Result: result, Balancers: balancerAddresses(svc)}, nil
}

// pick is how a Service wants its endpoints chosen.
func pick(svc *corev1.Service) (nft.Pick, []forward.Reason) {
	asked, problems := config.ReadSelection(svc)
	var reasons []forward.Reason
	for _, p := range problems {
		reasons = append(reasons, forward.Reason{Code: p.Reason, Message: p.Message})
	}
	if asked == config.ConsistentHash {
		return nft.Hash, reasons
	}
	return nft.Random, reasons
}
