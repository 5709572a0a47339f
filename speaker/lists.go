package main

import "k8s.io/client-go/features"

// lists are the client's features without the one that reads what there is as a stream of single events: at 10,000
// Services a start by that took half as long again as by lists, which the API server has encoded piece by piece since
// Kubernetes 1.34 and needs little memory for.
type lists struct{ features.Gates }

// Enabled tells whether the client has a feature.
func (l lists) Enabled(feature features.Feature) bool {
	return feature != features.WatchListClient && l.Gates.Enabled(feature)
}
