package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/speaker/elect"
)

// election is a world with what each node can announce.
type election struct {
	w           World
	stands      []stand // by node, in the world's order
	nominations map[netip.Addr]nomination
}

// stand is how a node stands, the same for all addresses.
type stand struct {
	member   Member
	known    bool // a speaker was heard from it
	links    []config.L2Link
	standing elect.Standing
}

// nomination is who can announce an address, and why the others cannot.
type nomination struct {
	answers  []config.L2Answer // by node, in the world's order; a node whose answer has no links cannot
	refusals []refusal         // sorted by node
}

// refusal is why one node cannot announce an address.
type refusal struct {
	node, reason, message string
}

func newElection(w World, shares map[netip.Addr][]Service) election {
	e := election{w: w, stands: make([]stand, len(w.Nodes)), nominations: make(map[netip.Addr]nomination, len(shares))}
	for i, node := range w.Nodes {
		member, known := w.member(node.Name)
		e.stands[i] = stand{member: member, known: known, links: member.Meta.l2Links(), standing: standing(node, member)}
	}
	for address, services := range shares {
		e.nominations[address] = e.nominate(address, services)
	}
	return e
}

func standing(node Node, member Member) elect.Standing {
	switch {
	case member.Life != Alive:
		return elect.Absent
	case node.Reluctant != "":
		return elect.Reluctant
	}
	return elect.Fit
}

// answer returns what a node can do for an address; not ok if it can do nothing.
func (e election) answer(n nomination, node string) (config.L2Answer, bool) {
	i, found := slices.BinarySearchFunc(e.w.Nodes, node, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	if !found || len(n.answers[i].Links) == 0 {
		return config.L2Answer{}, false
	}
	return n.answers[i], true
}

// nominate asks every node about an address with all its Services.
func (e election) nominate(address netip.Addr, services []Service) nomination {
	n := nomination{answers: make([]config.L2Answer, len(e.w.Nodes))}
	for i := range e.w.Nodes {
		answer, refused := e.ask(address, services, i)
		if refused != nil {
			n.refusals = append(n.refusals, *refused)
			continue
		}
		n.answers[i] = answer
	}
	return n
}

// ask asks whether one node could announce an address for all its Services, if its speaker is alive.
func (e election) ask(address netip.Addr, services []Service, number int) (config.L2Answer, *refusal) {
	node, stands := e.w.Nodes[number], e.stands[number]
	if !stands.known {
		return config.L2Answer{}, &refusal{node.Name, v1beta1.ReasonNoSpeaker, "no speaker was heard from it"}
	}
	if node.Excluded != "" {
		return config.L2Answer{}, &refusal{node.Name, v1beta1.ReasonNodeExcluded, node.Excluded}
	}
	var all config.L2Answer
	for i, service := range services {
		if service.Local && !service.EndpointsOn[node.Name] {
			return all, &refusal{node.Name, v1beta1.ReasonNoLocalEndpoint,
				fmt.Sprintf("the externalTrafficPolicy of %s is Local and it has no ready endpoint there", service.Key)}
		}
		answer := e.w.Config.L2For(config.L2Query{Addr: address, Service: service.Labels, Node: node.Labels, Links: stands.links})
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

// claims asks for owners. The addresses of a Service stay together where one
// node can have them all, else each goes its own way.
func (e election) claims() []elect.Claim {
	all := make([]elect.Claim, 0, len(e.w.Services))
	for _, service := range e.w.Services {
		together := e.candidates(service.Addresses)
		if len(together) > 0 {
			all = append(all, e.claim(service.Key, service.Addresses, together))
			continue
		}
		for i, address := range service.Addresses {
			one := service.Addresses[i : i+1]
			all = append(all, e.claim(strings.Join([]string{service.Key, address.String()}, " "), one, e.candidates(one)))
		}
	}
	return all
}

func (e election) claim(key string, addresses []netip.Addr, found []elect.Candidate) elect.Claim {
	claim := elect.Claim{Key: key, Addresses: addresses, Candidates: found, Present: e.w.present(addresses[0])}
	if answer, ok := e.answer(e.nominations[addresses[0]], claim.Present); ok {
		claim.Keep = e.keep(answer, found)
	}
	return claim
}

// keep tells whether an address stays where it is although a better node may be back.
func (e election) keep(answer config.L2Answer, found []elect.Candidate) bool {
	switch answer.Failback {
	case v1beta1.FailbackNever:
		return true
	case v1beta1.FailbackAfter:
		return slices.ContainsFunc(found, func(c elect.Candidate) bool {
			member, _ := e.w.member(c.Node)
			return member.Life == Alive && e.w.Now.Sub(member.Since) < answer.FailbackAfter
		})
	case v1beta1.FailbackAuto:
	}
	return false
}

// timed tells whether time alone may change a decision.
func (w World) timed() bool {
	return slices.ContainsFunc(w.Config.L2, func(a config.L2) bool { return a.Failback == v1beta1.FailbackAfter })
}

// candidates are the nodes that can have all of some addresses, sorted by name.
func (e election) candidates(addresses []netip.Addr) []elect.Candidate {
	var found []elect.Candidate
	for i, node := range e.w.Nodes {
		candidate := elect.Candidate{Node: node.Name, Standing: e.stands[i].standing}
		able := true
		for _, address := range addresses {
			answer := &e.nominations[address].answers[i]
			able = able && len(answer.Links) > 0
			candidate.Preference = max(candidate.Preference, answer.Weight)
		}
		if able {
			if found == nil {
				found = make([]elect.Candidate, 0, len(e.w.Nodes)-i)
			}
			found = append(found, candidate)
		}
	}
	return found
}
