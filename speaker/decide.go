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
	Present  string   // who has it now, as far as is known; "" if nobody
	Links    []string // where the owner announces it, sorted
	Conflict v1beta1.ConflictPolicy
	Reason   string // a Reason constant of the API
	Message  string // the reason in a sentence
}

// Decide says for every address of the world who announces it. Verdicts are
// sorted by address. Speakers with the same world come to the same verdicts. What only
// BGP announces has none.
func Decide(w World) []Verdict {
	w = w.layer2()
	shares := shareAddresses(w.Services)
	nominations := map[netip.Addr]nomination{}
	for address, services := range shares {
		nominations[address] = nominate(w, address, services)
	}
	owners := map[netip.Addr]elect.Verdict{}
	for _, result := range elect.Owners(claims(w, nominations)) {
		for _, address := range result.Addresses {
			owners[address] = result
		}
	}
	var verdicts []Verdict
	for _, address := range slices.SortedFunc(maps.Keys(shares), netip.Addr.Compare) {
		verdict := judge(w, nominations[address], owners[address])
		verdict.Address, verdict.Services = address, keys(shares[address])
		verdict.Present = w.present(address)
		verdicts = append(verdicts, verdict)
	}
	return verdicts
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

// nomination is who can announce an address, and why the others cannot.
type nomination struct {
	able     map[string]config.L2Answer // by node
	refusals []refusal                  // sorted by node
}

// refusal is why one node cannot announce an address.
type refusal struct {
	node, reason, message string
}

// nominate asks every node about an address with all its Services.
func nominate(w World, address netip.Addr, services []Service) nomination {
	n := nomination{able: map[string]config.L2Answer{}}
	for _, node := range w.Nodes {
		answer, refused := w.ask(address, services, node)
		if refused != nil {
			n.refusals = append(n.refusals, *refused)
			continue
		}
		n.able[node.Name] = answer
	}
	return n
}

// ask asks whether one node could announce an address for all its Services, if its speaker is alive.
func (w World) ask(address netip.Addr, services []Service, node Node) (config.L2Answer, *refusal) {
	member, known := w.member(node.Name)
	if !known {
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
		answer := w.Config.L2For(config.L2Query{
			Addr: address, Service: service.Labels, Node: node.Labels, Links: member.Meta.l2Links(),
		})
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
func claims(w World, nominations map[netip.Addr]nomination) []elect.Claim {
	var all []elect.Claim
	for _, service := range w.Services {
		together := candidates(w, nominations, service.Addresses)
		if len(together) > 0 {
			all = append(all, newClaim(w, service.Key, service.Addresses, together, nominations))
			continue
		}
		for _, address := range service.Addresses {
			one := []netip.Addr{address}
			key := service.Key + " " + address.String()
			all = append(all, newClaim(w, key, one, candidates(w, nominations, one), nominations))
		}
	}
	return all
}

func newClaim(w World, key string, addresses []netip.Addr, found []elect.Candidate, nominations map[netip.Addr]nomination) elect.Claim {
	claim := elect.Claim{Key: key, Addresses: addresses, Candidates: found, Present: w.present(addresses[0])}
	if answer, ok := nominations[addresses[0]].able[claim.Present]; ok {
		claim.Keep = w.keep(answer, found)
	}
	return claim
}

// keep tells whether an address stays where it is although a better node may be back.
func (w World) keep(answer config.L2Answer, found []elect.Candidate) bool {
	switch answer.Failback {
	case v1beta1.FailbackNever:
		return true
	case v1beta1.FailbackAfter:
		return slices.ContainsFunc(found, func(c elect.Candidate) bool {
			member, _ := w.member(c.Node)
			return member.Life == Alive && w.Now.Sub(member.Since) < answer.FailbackAfter
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
func candidates(w World, nominations map[netip.Addr]nomination, addresses []netip.Addr) []elect.Candidate {
	var found []elect.Candidate
	for _, node := range w.Nodes {
		candidate := elect.Candidate{Node: node.Name, Standing: w.standing(node)}
		able := true
		for _, address := range addresses {
			answer, ok := nominations[address].able[node.Name]
			able = able && ok
			candidate.Preference = max(candidate.Preference, answer.Weight)
		}
		if able {
			found = append(found, candidate)
		}
	}
	return found
}

func (w World) standing(node Node) elect.Standing {
	member, _ := w.member(node.Name)
	switch {
	case member.Life != Alive:
		return elect.Absent
	case node.Reluctant != "":
		return elect.Reluctant
	}
	return elect.Fit
}

// judge puts the election's result and the reasons together.
func judge(w World, n nomination, result elect.Verdict) Verdict {
	if result.Owner == "" {
		for _, name := range slices.Sorted(maps.Keys(n.able)) {
			n.refusals = append(n.refusals, refusal{name, v1beta1.ReasonNoSpeaker, "its speaker is " + w.life(name)})
		}
		reason, message := nobody(n.refusals)
		return Verdict{Reason: reason, Message: message}
	}
	answer := n.able[result.Owner]
	return Verdict{
		Owner: result.Owner, RunnerUp: result.RunnerUp,
		Links: answer.Links, Conflict: answer.Conflict,
		Reason: v1beta1.ReasonAnnounced, Message: result.Reason,
	}
}

func (w World) life(node string) string {
	member, _ := w.member(node)
	return [...]string{"alive", "gone", "silent"}[member.Life]
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
