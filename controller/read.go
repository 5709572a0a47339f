package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// source is where the world is read from: the cache, but for live.
type source struct {
	cache        client.Reader
	live         client.Reader                     // the API server itself, for what must not be out of date
	services     func() ([]*corev1.Service, error) // every Service in the cache; they must not be changed
	serviceCIDRs bool                              // whether the API server knows ServiceCIDRs
	class        string                            // --load-balancer-class
}

// read returns the world as the cache and the memory have it, with the labels of namespaces.
func (s source) read(ctx context.Context, m *memory, now time.Time) (world, map[string]labels.Set, error) {
	w := world{now: now}
	services, err := s.services()
	if err != nil {
		return w, nil, fmt.Errorf("list Services: %w", err)
	}
	w.services = m.read(services, s.class)
	slices.SortFunc(w.services, compareEntries)

	var pools v1beta1.IPAddressPoolList
	var l2 v1beta1.L2AdvertisementList
	var speakers v1beta1.SpeakerList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&pools, &l2, &speakers, &nodes} {
		if err := s.cache.List(ctx, list); err != nil {
			return w, nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	w.pools, w.l2, w.speakers = pools.Items, l2.Items, speakers.Items
	if w.routing, err = s.readRouting(ctx); err != nil {
		return w, nil, err
	}
	cidrs, err := s.readServiceCIDRs(ctx)
	if err != nil {
		return w, nil, err
	}
	w.readConfig(taken(nodes.Items, cidrs))
	namespaces, err := s.readNamespaces(ctx)
	return w, namespaces, err
}

// readRouting reads the kinds that are about BGP.
func (s source) readRouting(ctx context.Context) (routing, error) {
	var peers v1beta1.BGPPeerList
	var advertisements v1beta1.BGPAdvertisementList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	for _, list := range []client.ObjectList{&peers, &advertisements, &profiles, &communities} {
		if err := s.cache.List(ctx, list); err != nil {
			return routing{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	return routing{peers.Items, advertisements.Items, profiles.Items, communities.Items}, nil
}

// readConfig says what the objects of the world mean.
func (w *world) readConfig(taken []config.Taken) {
	w.config, w.problems = config.Read(config.Objects{
		Pools: w.pools, L2: w.l2, Taken: taken,
		Peers: w.routing.peers, BGP: w.routing.advertisements, Profiles: w.routing.profiles, Communities: w.routing.communities,
	})
	w.silent = silentNodes(w.speakers)
}

func (s source) readServiceCIDRs(ctx context.Context) (map[string][]string, error) {
	cidrs := map[string][]string{}
	if !s.serviceCIDRs {
		return cidrs, nil
	}
	var list networkingv1.ServiceCIDRList
	if err := s.cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list ServiceCIDRs: %w", err)
	}
	for _, item := range list.Items {
		cidrs[item.Name] = item.Spec.CIDRs
	}
	return cidrs, nil
}

func (s source) readNamespaces(ctx context.Context) (map[string]labels.Set, error) {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := s.cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list Namespaces: %w", err)
	}
	namespaces := make(map[string]labels.Set, len(list.Items))
	for _, item := range list.Items {
		namespaces[item.Name] = item.Labels
	}
	return namespaces, nil
}

// fresh reports whether the cache knows everything the API server knew when asked. A cache may be filled from an API
// server that lags behind the others: a controller that has just become the leader must not decide on what its
// predecessor has already changed.
func (s source) fresh(ctx context.Context) (bool, error) {
	services, err := s.services()
	if err != nil {
		return false, fmt.Errorf("list Services: %w", err)
	}
	versions := make(map[types.UID]string, len(services))
	for _, service := range services {
		versions[service.UID] = service.ResourceVersion
	}
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceList"))
	if err := s.live.List(ctx, &list); err != nil {
		return false, fmt.Errorf("list Services of the API server: %w", err)
	}
	for _, item := range list.Items {
		version, ok := versions[item.UID]
		if !ok || older(version, item.ResourceVersion) {
			return false, nil
		}
	}
	return true, nil
}
