package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/elect"
)

// Verdict says who announces an address and why.
type Verdict struct {
	Address  netip.Addr
	Services []string // namespace/name, sorted
	Owner    string   // a node; "" if nobody can
	RunnerUp string   // who would be next; "" if nobody
	Present  string   // who has it now, as far as is known; "" if nobody
	Links    []string // where the owner announces it, sorted
	Conflict v1beta1.ConflictPolicy
	Reason   string // a Reason constant of the API; without an owner: why this node is none
	Message  string // the reason in a sentence
	// Refusals are why no node can announce it, sorted by node; none if one can, or if those that could are gone.
	Refusals []refusal
}

// Decide says for every address of the world who announces it. Verdicts are
// sorted by address. Speakers with the same world come to the same verdicts. What only
// BGP announces has none.
func Decide(w World) []Verdict {
	w = w.layer2()
	shares := shareAddresses(w.Services)
	e := newElection(w, shares)
	owners := make(map[netip.Addr]elect.Verdict, len(shares))
	for _, result := range elect.Owners(e.claims()) {
		for _, address := range result.Addresses {
			owners[address] = result
		}
	}
	verdicts := make([]Verdict, 0, len(shares))
	for _, address := range slices.SortedFunc(maps.Keys(shares), netip.Addr.Compare) {
		verdict := e.judge(e.nominations[address], owners[address])
		verdict.Address, verdict.Services = address, keys(shares[address])
		verdict = e.stay(e.nominations[address], verdict)
		verdict.Present = w.present(address)
		verdicts = append(verdicts, verdict)
	}
	return verdicts
}

// stay leaves an address with a speaker that announces it and knows the cluster as it is now, if the one that was elected
// may not: after an outage that one could have missed that it is not to have the address, and both would announce it until
// the API server answers it, too.
func (e election) stay(n nomination, v Verdict) Verdict {
	elected, known := e.w.member(v.Owner)
	if !known || !elected.Meta.Uninformed {
		return v
	}
	for _, m := range e.w.Members {
		if m.Life != Alive || m.Meta.Uninformed || !m.Meta.owns(v.Address) {
			continue
		}
		if answer, able := e.answer(n, m.Name); able {
			v.Owner, v.RunnerUp, v.Links, v.Conflict = m.Name, v.Owner, answer.Links, answer.Conflict
			v.Message = fmt.Sprintf("%s has it; the API server does not answer %s, which would be the one", m.Name, v.RunnerUp)
			return v
		}
	}
	return v
}

// layer2 returns the world without the addresses that only BGP announces.
func (w World) layer2() World {
	var services []Service
	for _, service := range w.Services {
		if slices.ContainsFunc(service.Addresses, w.Config.BGPOnly) {
			service.Addresses = slices.DeleteFunc(slices.Clone(service.Addresses), w.Config.BGPOnly)
		}
		if len(service.Addresses) > 0 {
			services = append(services, service)
		}
	}
	w.Services = services
	return w
}

// shareAddresses groups Services by address, each group sorted by key.
func shareAddresses(services []Service) map[netip.Addr][]Service {
	shares := make(map[netip.Addr][]Service, len(services))
	for _, service := range services {
		for _, address := range service.Addresses {
			shares[address] = append(shares[address], service)
		}
	}
	for _, group := range shares {
		if len(group) > 1 {
			slices.SortFunc(group, func(a, b Service) int { return cmp.Compare(a.Key, b.Key) })
		}
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

// judge puts the election's result and the reasons together.
func (e election) judge(n nomination, result elect.Verdict) Verdict {
	if result.Owner == "" {
		nobody := Verdict{Reason: v1beta1.ReasonNoSpeaker, Message: "no speaker that could announce it is alive", Refusals: n.refusals}
		for _, r := range n.refusals {
			if r.node == e.w.Node {
				nobody.Reason, nobody.Message = r.reason, r.message
			}
		}
		return nobody
	}
	answer, _ := e.answer(n, result.Owner)
	return Verdict{
		Owner: result.Owner, RunnerUp: result.RunnerUp,
		Links: answer.Links, Conflict: answer.Conflict,
		Reason: v1beta1.ReasonAnnounced, Message: result.Reason,
	}
}
