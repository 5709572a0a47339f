package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// moves count what changed hands since the speaker started.
type moves struct {
	Taken, Given, Refused uint64
}

// news is what an Event about a Service says.
type news struct {
	Service         string // namespace/name
	Reason, Message string
	Bad             bool
}

// newsOfTaken tells each Service once of the addresses that a node has just taken, sorted by Service.
func newsOfTaken(node string, taken []Verdict) []news {
	addresses, why := map[string][]string{}, map[string]string{}
	for _, v := range taken {
		for _, service := range v.Services {
			addresses[service] = append(addresses[service], v.Address.String())
			why[service] = v.Message
		}
	}
	var all []news
	for _, service := range slices.Sorted(maps.Keys(addresses)) {
		slices.Sort(addresses[service])
		all = append(all, news{service, v1beta1.ReasonAnnounced, fmt.Sprintf(
			"%s announces %s: %s", node, strings.Join(addresses[service], ", "), why[service]), false})
	}
	return all
}

// newsOfRefused tells the Services of an address why a node does not take it.
func newsOfRefused(node string, no refused) []news {
	var all []news
	for _, service := range no.Verdict.Services {
		all = append(all, news{service, no.Reason, node + ": " + no.Message, true})
	}
	return all
}
