package bgp

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// announce puts the route into the server's table, in place of one with that prefix.
func (s *speaker) announce(ctx context.Context, p Peer, r Route, nextHop netip.Addr) error {
	path, err := p.path(r, nextHop)
	if err == nil {
		_, err = s.server.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: path})
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", r.Prefix, err)
	}
	return nil
}

// withdraw takes the prefix out of the server's table.
func (s *speaker) withdraw(ctx context.Context, prefix netip.Prefix) error {
	path, err := bare(prefix)
	if err == nil {
		err = s.server.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: path})
	}
	if err != nil {
		return fmt.Errorf("withdraw %s: %w", prefix, err)
	}
	return nil
}

// bare is a path without attributes but the ones gobgp insists on.
func bare(prefix netip.Prefix) (*api.Path, error) {
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: prefix.Addr().String(), PrefixLen: uint32(prefix.Bits())})
	if err != nil {
		return nil, err
	}
	attributes, err := packed(&api.OriginAttribute{Origin: uint32(wire.BGP_ORIGIN_ATTR_TYPE_IGP)},
		&api.NextHopAttribute{NextHop: "0.0.0.0"})
	return &api.Path{Family: familyOf(prefix).gobgp(), Nlri: nlri, Pattrs: attributes}, err
}

// path is the route in gobgp's terms. The next hop is always given: gobgp's own choice
// for the family that is not the session's is one that routers drop.
func (p Peer) path(r Route, nextHop netip.Addr) (*api.Path, error) {
	path, err := bare(r.Prefix)
	if err != nil {
		return nil, err
	}
	attributes := []proto.Message{&api.OriginAttribute{Origin: uint32(wire.BGP_ORIGIN_ATTR_TYPE_IGP)}}
	if nextHop.Is4() {
		attributes = append(attributes, &api.NextHopAttribute{NextHop: nextHop.String()})
	} else {
		attributes = append(attributes, &api.MpReachNLRIAttribute{
			Family: path.Family, NextHops: []string{zoneless(nextHop)}, Nlris: []*anypb.Any{path.Nlri},
		})
	}
	if r.Prepend > 0 && p.external() { // an internal peer would see a loop
		asns := make([]uint32, r.Prepend)
		for i := range asns {
			asns[i] = p.LocalASN
		}
		attributes = append(attributes, &api.AsPathAttribute{
			Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: asns}},
		})
	}
	path.Pattrs, err = packed(append(attributes, r.optional()...)...)
	return path, err
}

func (r Route) optional() (attributes []proto.Message) {
	if r.MED.Set {
		attributes = append(attributes, &api.MultiExitDiscAttribute{Med: r.MED.Value})
	}
	if r.LocalPref.Set {
		attributes = append(attributes, &api.LocalPrefAttribute{LocalPref: r.LocalPref.Value})
	}
	if len(r.Communities) > 0 {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: r.Communities})
	}
	var large []*api.LargeCommunity
	for _, c := range r.Large {
		large = append(large, &api.LargeCommunity{GlobalAdmin: c.Global, LocalData1: c.Data1, LocalData2: c.Data2})
	}
	if len(large) > 0 {
		attributes = append(attributes, &api.LargeCommunitiesAttribute{Communities: large})
	}
	return attributes
}

func packed(messages ...proto.Message) ([]*anypb.Any, error) {
	all := make([]*anypb.Any, 0, len(messages))
	for _, m := range messages {
		a, err := anypb.New(m)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
