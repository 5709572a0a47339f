package main

import (
	"context"
	"net/netip"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// readRouting reads the kinds that are about routers, without their statuses.
func (r *reader) readRouting(ctx context.Context, s *Snapshot) error {
	var peers v1beta1.BGPPeerList
	var advertisements v1beta1.BGPAdvertisementList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	if err := r.listAll(ctx, &peers, &advertisements, &profiles, &communities); err != nil {
		return err
	}
	for _, peer := range peers.Items {
		s.Routers = append(s.Routers, v1beta1.BGPPeer{ObjectMeta: nameAndLabels(&peer), Spec: peer.Spec})
	}
	for _, bgp := range advertisements.Items {
		s.BGP = append(s.BGP, v1beta1.BGPAdvertisement{ObjectMeta: nameAndLabels(&bgp), Spec: bgp.Spec})
	}
	for _, profile := range profiles.Items {
		s.Profiles = append(s.Profiles, v1beta1.BFDProfile{ObjectMeta: nameAndLabels(&profile), Spec: profile.Spec})
	}
	for _, community := range communities.Items {
		s.Communities = append(s.Communities, v1beta1.Community{ObjectMeta: nameAndLabels(&community), Spec: community.Spec})
	}
	return nil
}

// hasRouting reports whether there is any BGPPeer or BGPAdvertisement.
func (r *reader) hasRouting(ctx context.Context) (bool, error) {
	var peers v1beta1.BGPPeerList
	var advertisements v1beta1.BGPAdvertisementList
	err := r.listAll(ctx, &peers, &advertisements)
	return len(peers.Items)+len(advertisements.Items) > 0, err
}

// announcedKinds returns the kinds of addresses that any advertisement announces; empty if there is none.
func announcedKinds(advertisements []v1beta1.BGPAdvertisement) map[v1beta1.AddressKind]bool {
	kinds := map[v1beta1.AddressKind]bool{}
	for _, a := range advertisements {
		kinds[v1beta1.AddressLoadBalancer] = true
		for _, kind := range a.Spec.ServiceAddresses {
			kinds[kind] = true
		}
	}
	return kinds
}

// parseAddresses parses what the API server has validated: "None" and what else is no address is left out.
func parseAddresses(texts []string) []netip.Addr {
	var found []netip.Addr
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			found = append(found, addr.Unmap())
		}
	}
	return found
}
