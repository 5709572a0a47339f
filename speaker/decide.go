package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/elect"
)

// Verdict says who announces an address and why.
type Verdict struct {
	Address  netip.Addr
	Services []string // namespace/name, sorted
	Owner    string   // a node; "" if nobody can
	RunnerUp string   // who would be next; "" if nobody
	Links    []string // where the owner announces it, sorted
	Conflict v1beta1.ConflictPolicy
	Reason   string // a Reason constant of the API
	Message  string // the reason in a sentence
}

// Decide says for every address of the world who announces it. Verdicts are
// sorted by address. Every speaker with the same world comes to the same verdicts.
func Decide(w World) []Verdict {
	shares := shareAddresses(w.Services)
	var verdicts []Verdict
	var claims []elect.Claim
	nominees := map[netip.Addr]map[string]config.L2Answer{}
	for _, address := range slices.SortedFunc(maps.Keys(shares), netip.Addr.Compare) {
		able, refusals := nominate(w, address, shares[address])
		verdict := Verdict{Address: address, Services: keys(shares[address])}
		if len(able) == 0 {
			verdict.Reason, verdict.Message = nobody(refusals)
		}
		nominees[address] = able
		claims = append(claims, claim(address, verdict.Services[0], able, w.Nodes))
		verdicts = append(verdicts, verdict)
	}
	for i, result := range elect.Owners(claims) {
		v := &verdicts[i]
		if result.Owner == "" {
			continue
		}
		answer := nominees[v.Address][result.Owner]
		v.Owner, v.RunnerUp = result.Owner, result.RunnerUp
		v.Links, v.Conflict = answer.Links, answer.Conflict
		v.Reason, v.Message = v1beta1.ReasonAnnounced, result.Reason
	}
	return verdicts
}

// shareAddresses groups Services by address, each group sorted by key.
func shareAddresses(services []Service) map[netip.Addr][]Service {
	shares := map[netip.Addr][]Service{}
	for _, service := range services {
		for _, address := range service.Addresses {
			shares[address] = append(shares[address], service)
		}
	}
	for _, group := range shares {
		slices.SortFunc(group, func(a, b Service) int { return cmp.Compare(a.Key, b.Key) })
	}
	return shares
}

func keys(services []Service) []string {
	var found []string
	for _, service := range services {
		found = append(found, service.Key)
	}
	return found
}

// refusal is why one node cannot announce an address.
type refusal struct {
	node, reason, message string
}

// nominate returns the nodes that can announce an address for all its
// Services, each with the links it would use, and why the others cannot.
func nominate(w World, address netip.Addr, services []Service) (map[string]config.L2Answer, []refusal) {
	links := map[string][]config.L2Link{}
	for _, member := range w.Members {
		links[member.Name] = member.Links
	}
	able := map[string]config.L2Answer{}
	var refusals []refusal
	for _, node := range w.Nodes {
		found, alive := links[node.Name]
		answer, refused := nominateNode(w.Config, address, services, node, found, alive)
		if refused != nil {
			refusals = append(refusals, *refused)
			continue
		}
		able[node.Name] = answer
	}
	return able, refusals
}

// nominateNode asks whether one node can announce an address for all its Services.
func nominateNode(c config.Config, address netip.Addr, services []Service, node Node, links []config.L2Link, alive bool) (config.L2Answer, *refusal) {
	if !alive {
		return config.L2Answer{}, &refusal{node.Name, v1beta1.ReasonNoSpeaker, "no speaker is alive there"}
	}
	if node.Excluded != "" {
		return config.L2Answer{}, &refusal{node.Name, v1beta1.ReasonNodeExcluded, node.Excluded}
	}
	var all config.L2Answer
	for i, service := range services {
		if service.Local && !service.EndpointsOn[node.Name] {
			return all, &refusal{node.Name, v1beta1.ReasonNoLocalEndpoint,
				fmt.Sprintf("externalTrafficPolicy of %s is Local and it has no ready endpoint there", service.Key)}
		}
		answer := c.L2For(config.L2Query{Addr: address, Service: service.Labels, Node: node.Labels, Links: links})
		if len(answer.Links) == 0 {
			return all, &refusal{node.Name, answer.Reason, answer.Message}
		}
		if i == 0 {
			all = answer
			continue
		}
		all.Links = slices.Compact(slices.Sorted(slices.Values(append(all.Links, answer.Links...))))
		all.Weight = max(all.Weight, answer.Weight)
	}
	return all, nil
}

// nobody sums up why no node can announce an address: the reason that most
// nodes share, and each node's own words.
func nobody(refusals []refusal) (reason, message string) {
	if len(refusals) == 0 {
		return v1beta1.ReasonNoSpeaker, "the cluster has no nodes"
	}
	count := map[string]int{}
	var words []string
	for _, r := range refusals {
		count[r.reason]++
		words = append(words, r.node+": "+r.message)
	}
	reason = slices.MaxFunc(slices.Sorted(maps.Keys(count)), func(a, b string) int {
		return cmp.Compare(count[a], count[b])
	})
	return reason, "no node can announce it: " + strings.Join(words, "; ")
}
