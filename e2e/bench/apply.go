package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/vishvananda/netns"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/forward"
	"github.com/fairlead/fairlead/speaker/nft"
)

// static is what the speaker tells the rules of this cluster.
func static() nft.Static {
	return nft.Static{
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix(clusterCIDR)}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(serviceCIDR)},
		NodePortAddresses: []netip.Addr{netip.MustParseAddr(nodeAddress)}, Announced: []netip.Addr{netip.MustParseAddr(probeBalancer)},
		AnswerEcho: true, Echo: []netip.Addr{netip.MustParseAddr(probeBalancer)}, DropInvalid: true,
	}
}

func theNode() forward.Node {
	return forward.Node{
		Name: nodeName, Zone: "zone1", PodCIDRs: static().PodCIDRs, ServiceCIDRs: static().ServiceCIDRs,
		Addresses: []netip.Addr{netip.MustParseAddr(nodeAddress)}, Peers: []netip.Addr{netip.MustParseAddr(nodeAddress)},
	}
}

// applyTimes is how often one endpoint is changed.
const applyTimes = 1000

// applies measures the change of one endpoint in the kernel alone: room nft as the speaker uses it, without an API server.
func (b *bench) applies(n int) (samples, error) {
	var took samples
	err := in(0, func() error {
		ns, err := netns.New()
		if err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		defer func() { _ = ns.Close() }()
		table, err := nft.Open(slog.New(slog.DiscardHandler), nil)
		if err != nil {
			return err
		}
		defer func() { _ = table.Close() }()
		node, all := theNode(), map[string]nft.Service{}
		for i := range n {
			all[crowdName(i)] = forward.Service(crowdService(i), []*discoveryv1.EndpointSlice{crowdSlice(i)}, node, nft.Random).Wish
		}
		ctx := context.Background()
		if _, err := table.Apply(ctx, nft.Wish{Static: static(), Changed: all, Full: true}); err != nil {
			return err
		}
		slice := crowdSlice(n / 2)
		for i := range applyTimes {
			slice.Endpoints[i%each].Addresses[0] = fresh(i + 1).String()
			one := forward.Service(crowdService(n/2), []*discoveryv1.EndpointSlice{slice}, node, nft.Random).Wish
			began := time.Now()
			if _, err := table.Apply(ctx, nft.Wish{Static: static(), Changed: map[string]nft.Service{crowdName(n / 2): one}}); err != nil {
				return err
			}
			took = append(took, time.Since(began).Seconds())
		}
		return nil
	})
	return took, err
}
