package main

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/config"
)

// World is all that the announcements depend on: what users wrote, what the
// cluster is, and who is alive. Lists are sorted by name.
type World struct {
	Node     string // the node this speaker runs on
	Now      time.Time
	Config   config.Config
	Services []Service
	Nodes    []Node
	Members  []Member

	// What sessions with routers depend on beside that; all of this node.
	Addresses []netip.Addr      // as in its status: the first of a family is primary
	Gateways  []netip.Addr      // of its default routes, the best first; a link-local one has a zone
	Secrets   map[string]string // the passwords in Secrets, by name; those that are not there are missing
	// DrainingSince is when Node.Leaving was first seen; zero if it was not.
	DrainingSince time.Time
}

// Service is a Service that Fairlead gave addresses.
type Service struct {
	Key       string // namespace/name
	Labels    labels.Set
	Addresses []netip.Addr
	// Local is externalTrafficPolicy Local: only nodes with an endpoint can answer.
	Local bool
	// EndpointsOn holds the nodes with a ready endpoint or, if there is none at all, those
	// with one that is terminating and still serving (KEP-1669). It is nil unless Local or InternalLocal.
	EndpointsOn map[string]bool

	// ClusterIPs and ExternalIPs are those that a BGPAdvertisement announces; else none.
	ClusterIPs, ExternalIPs []netip.Addr
	// InternalLocal is internalTrafficPolicy Local, which is about ClusterIPs.
	InternalLocal bool
	// HasEndpoints tells that an endpoint is ready, or terminating and still serving, anywhere. It is known only if
	// there are BGPAdvertisements.
	HasEndpoints bool
}

// Node is a node of the cluster.
type Node struct {
	Name   string
	Labels labels.Set
	// Excluded says why the node must not announce; "" if it may.
	Excluded string
	// Reluctant says why the node announces only if no other can; "" if it is as good as any.
	Reluctant string
	// Leaving says why routers should send nothing more to the node; "" if it stays. Other than Reluctant it is a will,
	// not a weakness: routers see themselves whether a node can be reached.
	Leaving string
}

// Life is how the speaker of a node stands.
type Life int

const (
	// Alive speakers can announce.
	Alive Life = iota
	// Left speakers said goodbye: nobody answers there for anything any more.
	Left
	// Dead speakers went silent: they may still answer without our knowing.
	Dead
)

// Member is a speaker that was heard of.
type Member struct {
	Name  string
	Life  Life
	Since time.Time // when it came to this life, by the clock of this node
	Meta  Meta
}

// member returns the speaker of a node; not ok if none was heard of.
func (w World) member(node string) (Member, bool) {
	for _, m := range w.Members {
		if m.Name == node {
			return m, true
		}
	}
	return Member{}, false
}

// present returns the node that says it announces an address: a live one
// rather than one that is gone, of several the first by name. "" if nobody does.
func (w World) present(address netip.Addr) string {
	found := ""
	for _, m := range w.Members {
		if !m.Meta.owns(address) {
			continue
		}
		if m.Life == Alive {
			return m.Name
		}
		if found == "" {
			found = m.Name
		}
	}
	return found
}
