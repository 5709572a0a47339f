package config

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// L2 is what an L2Advertisement means.
type L2 struct {
	Name          string
	Pools         []string  // beside those PoolSelectors select; both empty: all
	PoolSelectors Selectors // one that matches is enough
	Nodes         Selectors // empty: all
	Services      Selectors // empty: all
	Interfaces    []string  // names and patterns; empty: those whose subnet holds the address
	Preferred     []Preference
	Failback      v1beta1.Failback
	FailbackAfter time.Duration
	Conflict      v1beta1.ConflictPolicy
}

// Preference gives the nodes it selects a weight from 1 to 100.
type Preference struct {
	Weight   int
	Selector labels.Selector
}

// readL2 reads one advertisement. That it names a pool which does not exist is a problem.
func readL2(object v1beta1.L2Advertisement, pools []v1beta1.IPAddressPool) (L2, []Problem) {
	name := "l2advertisement/" + object.Name
	spec := object.Spec
	l2 := L2{
		Name:          object.Name,
		Pools:         spec.IPAddressPools,
		Interfaces:    spec.Interfaces,
		Failback:      spec.Failback,
		FailbackAfter: duration(spec.FailbackAfter),
		Conflict:      spec.ConflictPolicy,
	}
	var problems, found []Problem
	l2.PoolSelectors, problems = readSelectors(name, "ipAddressPoolSelectors", spec.IPAddressPoolSelectors)
	l2.Nodes, found = readSelectors(name, "nodeSelectors", spec.NodeSelectors)
	problems = append(problems, found...)
	l2.Services, found = readSelectors(name, "serviceSelectors", spec.ServiceSelectors)
	problems = append(problems, found...)
	for i, preferred := range spec.PreferredNodeSelectors {
		selectors, found := readSelectors(name, fmt.Sprintf("preferredNodeSelectors[%d].preference", i), []metav1.LabelSelector{preferred.Preference})
		problems = append(problems, found...)
		l2.Preferred = append(l2.Preferred, Preference{int(preferred.Weight), selectors[0]})
	}
	for _, pattern := range spec.Interfaces {
		if _, err := path.Match(pattern, ""); err != nil {
			problems = append(problems, Problem{name, v1beta1.ReasonSettingInvalid, fmt.Sprintf("interfaces: %q matches no interface: a [ needs a ], and a \\ something behind it", pattern)})
		}
	}
	for _, pool := range spec.IPAddressPools {
		if !slices.ContainsFunc(pools, func(p v1beta1.IPAddressPool) bool { return p.Name == pool }) {
			problems = append(problems, Problem{name, v1beta1.ReasonPoolNotFound, fmt.Sprintf("there is no IPAddressPool %s: write the name of one that exists, or make it", pool)})
		}
	}
	return l2, problems
}

// selectsPool reports whether the advertisement is about a pool. A nil pool stands for an address of no pool: its pool
// was deleted while a Service held it, and only advertisements of all pools are about it.
func (a L2) selectsPool(pool *Pool) bool {
	if len(a.Pools) == 0 && len(a.PoolSelectors) == 0 {
		return true
	}
	return pool != nil && (slices.Contains(a.Pools, pool.Name) || a.PoolSelectors.Match(pool.Labels))
}

// weight returns the sum of the weights of all preferences that match a node.
func (a L2) weight(node labels.Set) int {
	sum := 0
	for _, preferred := range a.Preferred {
		if preferred.Selector.Matches(node) {
			sum += preferred.Weight
		}
	}
	return sum
}

// L2Query asks on which links of one node an address is announced.
type L2Query struct {
	Addr    netip.Addr
	Service labels.Set // the labels of the Service that has the address
	Node    labels.Set // the labels of the node
	Links   []L2Link   // the links of the node, in any order
}

// L2Link is a link of a node with the subnets it is in.
type L2Link struct {
	Name    string
	Subnets []netip.Prefix
}

// L2Answer says on which links an address is announced and how.
type L2Answer struct {
	Links          []string // sorted; empty: this node cannot announce the address, and Reason says why
	Advertisements []string // those that apply, sorted; empty: no advertisement selects the pool, zero configuration
	Weight         int      // how much this node is preferred: the sum over all advertisements that apply
	Failback       v1beta1.Failback
	FailbackAfter  time.Duration
	Conflict       v1beta1.ConflictPolicy
	Reason         string // ReasonAnnounced if Links is not empty
	Message        string // for people
}

// L2For answers a query. Several advertisements of one pool add up: links are united, weights summed; of different
// failbacks the most reluctant counts, and Announce counts before Refuse. A pool that no advertisement selects, of Layer 2
// or BGP, is announced on the links whose subnet holds the address. For an address shared by Services, ask for each of
// them.
func (c Config) L2For(q L2Query) L2Answer {
	var pool *Pool
	if i, ok := c.PoolOf(q.Addr); ok {
		pool = &c.Pools[i]
	}
	selecting := filterL2(c.L2, func(a L2) bool { return a.selectsPool(pool) })
	if len(selecting) == 0 {
		if by := c.bgpOnly(pool); by != "" {
			return L2Answer{Reason: v1beta1.ReasonAnnouncedByBGP, Message: fmt.Sprintf("%s: its pool is announced by BGP (%s) and selected by no L2Advertisement", q.Addr, by)}
		}
		return unite(q, []L2{{Failback: v1beta1.FailbackAuto, Conflict: v1beta1.ConflictRefuse}}, nil)
	}
	forService := filterL2(selecting, func(a L2) bool { return a.Services.MatchOrEmpty(q.Service) })
	if len(forService) == 0 {
		return L2Answer{Reason: v1beta1.ReasonNoAdvertisement, Message: fmt.Sprintf("%s: the serviceSelectors of no advertisement of its pool (%s) match the Service", q.Addr, names(selecting))}
	}
	forNode := filterL2(forService, func(a L2) bool { return a.Nodes.MatchOrEmpty(q.Node) })
	if len(forNode) == 0 {
		return L2Answer{Reason: v1beta1.ReasonNodeNotSelected, Message: fmt.Sprintf("%s: the nodeSelectors of no advertisement (%s) match this node", q.Addr, names(forService))}
	}
	return unite(q, forNode, namesOf(forNode))
}

// BGPOnly reports whether BGP advertisements select the pool of an address and those of Layer 2 do not.
func (c Config) BGPOnly(addr netip.Addr) bool {
	var pool *Pool
	if i, ok := c.PoolOf(addr); ok {
		pool = &c.Pools[i]
	}
	return !slices.ContainsFunc(c.L2, func(a L2) bool { return a.selectsPool(pool) }) && c.bgpOnly(pool) != ""
}

// bgpOnly returns the names of the BGP advertisements of a pool, "" if there are none.
func (c Config) bgpOnly(pool *Pool) string {
	var found []string
	for _, a := range c.BGP {
		if a.selectsPool(pool) {
			found = append(found, a.Name)
		}
	}
	return strings.Join(found, ", ")
}

// unite answers for advertisements that all apply.
func unite(q L2Query, apply []L2, advertisements []string) L2Answer {
	answer := L2Answer{Advertisements: advertisements, Failback: v1beta1.FailbackAuto, Conflict: v1beta1.ConflictRefuse}
	for _, a := range apply {
		answer.Links = append(answer.Links, a.links(q)...)
		answer.Weight += a.weight(q.Node)
		answer.Failback, answer.FailbackAfter = reluctant(answer.Failback, answer.FailbackAfter, a.Failback, a.FailbackAfter)
		if a.Conflict == v1beta1.ConflictAnnounce {
			answer.Conflict = v1beta1.ConflictAnnounce
		}
	}
	slices.Sort(answer.Links)
	answer.Links = slices.Compact(answer.Links)
	answer.Reason, answer.Message = v1beta1.ReasonAnnounced, q.Addr.String()+" can be announced on "+strings.Join(answer.Links, ", ")
	if len(answer.Links) == 0 {
		answer.Reason, answer.Message = v1beta1.ReasonNoInterface, noInterface(q, apply)
	}
	return answer
}

// links returns the names of the node's links that one advertisement is about.
func (a L2) links(q L2Query) []string {
	var found []string
	for _, link := range q.Links {
		named := slices.ContainsFunc(a.Interfaces, func(pattern string) bool { return matches(pattern, link.Name) })
		bySubnet := len(a.Interfaces) == 0 && slices.ContainsFunc(link.Subnets, func(p netip.Prefix) bool { return p.Contains(q.Addr) })
		if named || bySubnet {
			found = append(found, link.Name)
		}
	}
	return found
}

// matches tells whether an interface has a name or matches a pattern of the shell's kind. A
// name is what it is even if it could be read as a pattern.
func matches(pattern, name string) bool {
	found, err := path.Match(pattern, name)
	return pattern == name || found && err == nil
}

func noInterface(q L2Query, apply []L2) string {
	var interfaces []string
	for _, a := range apply {
		interfaces = append(interfaces, a.Interfaces...)
	}
	if len(interfaces) > 0 {
		slices.Sort(interfaces)
		return fmt.Sprintf("%s: this node has no interface %s", q.Addr, strings.Join(slices.Compact(interfaces), ", "))
	}
	return fmt.Sprintf("%s: no interface of this node is in a subnet that holds it: name interfaces in an L2Advertisement, or give the node an address in that subnet", q.Addr)
}

// reluctant returns that of two failbacks which moves an address later.
func reluctant(a v1beta1.Failback, aAfter time.Duration, b v1beta1.Failback, bAfter time.Duration) (v1beta1.Failback, time.Duration) {
	order := map[v1beta1.Failback]int{v1beta1.FailbackAfter: 1, v1beta1.FailbackNever: 2}
	if order[b] > order[a] || order[b] == order[a] && bAfter > aAfter {
		return b, bAfter
	}
	return a, aAfter
}

func filterL2(from []L2, keep func(L2) bool) []L2 {
	var kept []L2
	for _, a := range from {
		if keep(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

func namesOf(advertisements []L2) []string {
	var found []string
	for _, a := range advertisements {
		found = append(found, a.Name)
	}
	return found
}

func names(advertisements []L2) string { return strings.Join(namesOf(advertisements), ", ") }
