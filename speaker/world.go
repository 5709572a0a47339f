package main

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/config"
)

// World is all that the announcements depend on: what users wrote, what the
// cluster is, and who is alive. Lists are sorted by name.
type World struct {
	Node     string // the node this speaker runs on
	Config   config.Config
	Services []Service
	Nodes    []Node
	Members  []Member
}

// Service is a Service that Fairlead gave addresses.
type Service struct {
	Key       string // namespace/name
	Labels    labels.Set
	Addresses []netip.Addr
	// Local is externalTrafficPolicy Local: only nodes with an endpoint can answer.
	Local bool
	// EndpointsOn holds the nodes with a ready endpoint, or with one that is
	// terminating and still serving where none is ready (KEP-1669). It is nil unless Local.
	EndpointsOn map[string]bool
}

// Node is a node of the cluster.
type Node struct {
	Name   string
	Labels labels.Set
	// Excluded says why the node must not announce; "" if it may.
	Excluded string
	// Reluctant says why the node announces only if no other can; "" if it is as good as any.
	Reluctant string
}

// Member is a speaker that is alive.
type Member struct {
	Name  string
	Links []config.L2Link
}
