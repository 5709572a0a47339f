package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/links"
	"github.com/fairlead/fairlead/speaker/members"
)

// Meta is what a speaker tells the others about its node, by gossip: so an
// outage of the API server hides nothing.
type Meta struct {
	Links []MetaLink   `json:"links"`
	Owns  []netip.Addr `json:"owns,omitempty"` // the addresses it answers for, sorted
	// Uninformed tells that the API server does not answer it: what it knows of the cluster may be old.
	Uninformed bool `json:"uninformed,omitempty"`
}

// MetaLink is a link that can carry announcements.
type MetaLink struct {
	Name      string         `json:"name"`
	MAC       string         `json:"mac"`
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
	Addresses []netip.Addr   `json:"addresses,omitempty"` // of the node there, in the link's order
}

func (m Meta) owns(address netip.Addr) bool {
	_, found := slices.BinarySearchFunc(m.Owns, address, netip.Addr.Compare)
	return found
}

// hasMAC tells whether a link of the node has this MAC address.
func (m Meta) hasMAC(mac string) bool {
	return slices.ContainsFunc(m.Links, func(l MetaLink) bool { return l.MAC == mac })
}

// l2Links returns the links as config asks for them.
func (m Meta) l2Links() []config.L2Link {
	var found []config.L2Link
	for _, l := range m.Links {
		found = append(found, config.L2Link{Name: l.Name, Subnets: l.Subnets})
	}
	return found
}

// newMeta says what this node tells the others. Owns must be sorted.
func newMeta(all []links.Link, owns []netip.Addr) Meta {
	m := Meta{Owns: owns}
	for _, link := range all {
		if !link.Usable() {
			continue
		}
		found := MetaLink{Name: link.Name, MAC: link.MAC.String()}
		for _, prefix := range link.Prefixes {
			if !prefix.Addr().IsLinkLocalUnicast() && !prefix.IsSingleIP() {
				found.Subnets = append(found.Subnets, prefix.Masked())
				found.Addresses = append(found.Addresses, prefix.Addr())
			}
		}
		slices.SortFunc(found.Subnets, comparePrefixes)
		found.Subnets = slices.Compact(found.Subnets)
		m.Links = append(m.Links, found)
	}
	return m
}

// encode writes the meta for gossip. Where it would be too large, the addresses
// are left out: the others then cannot tell who has one, and keep it there only by its home.
func (m Meta) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err == nil && len(text) > members.MaxMeta {
		m.Owns = nil
		text, err = json.Marshal(m)
	}
	if err != nil {
		return nil, fmt.Errorf("encode what this node tells the others: %w", err)
	}
	return text, nil
}

// decodeMeta reads what another speaker said. What cannot be read says nothing.
func decodeMeta(text []byte) Meta {
	var m Meta
	if len(text) > members.MaxMeta || json.Unmarshal(text, &m) != nil {
		return Meta{}
	}
	slices.SortFunc(m.Owns, netip.Addr.Compare)
	return m
}

// readMembers turns what gossip knows into what decisions are made of.
func readMembers(found []members.Member) []Member {
	var all []Member
	for _, m := range found {
		life := Alive
		switch m.State {
		case members.Alive:
		case members.Left:
			life = Left
		case members.Dead:
			life = Dead
		}
		all = append(all, Member{Name: m.Name, Life: life, Since: m.Since, Meta: decodeMeta(m.Meta)})
	}
	return all
}
