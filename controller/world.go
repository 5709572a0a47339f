package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
	"github.com/fairlead/fairlead/controller/ipam"
)

// fieldManager is the name under which the controller writes. What another manager wrote it never overwrites.
const fieldManager = "fairlead-controller"

// world is everything the controller decides from. Objects in it belong to the cache and are never changed.
type world struct {
	config   config.Config
	problems []config.Problem
	services []entry // by namespace and name
	pools    []v1beta1.IPAddressPool
	l2       []v1beta1.L2Advertisement
	routing  routing
	speakers []v1beta1.Speaker
	silent   map[string]bool // nodes whose speakers were heard of and are no longer
	leases   []lease
	terms    map[types.NamespacedName]uint64 // on what terms Services shared when they were last at peace
	now      time.Time
}

// entry is a Service with what it means to the controller.
type entry struct {
	service *corev1.Service
	claim   ipam.Claim
	role    role
	terms   uint64 // a hash of its terms of sharing
}

// role says what the controller does with a Service.
type role uint8

const (
	// stranger is a Service that is left alone: at most its addresses are taken.
	stranger role = iota
	// ours is a Service that gets addresses and conditions.
	ours
	// leaving is a Service that was ours and gets its status cleared.
	leaving
)

// readEntry reads one Service. ok is false if it is of no interest at all.
func readEntry(service *corev1.Service, class string) (e entry, ok bool) {
	e = entry{service: service, role: roleOf(service, class)}
	late := !service.DeletionTimestamp.IsZero() // what is on its way out gets nothing new
	if (e.role == stranger || late) && len(service.Status.LoadBalancer.Ingress) == 0 {
		return entry{}, false
	}
	wish, problems := config.ReadService(service)
	e.claim.Wish = wish
	switch other := foreignOwner(service); {
	case e.role == leaving:
		e.claim.Leaving = true
	case e.role == stranger:
		e.claim.NotOurs = "the Service is for another load balancer: its loadBalancerClass is not the one Fairlead serves"
	case other != "" && !wish.TakeOver:
		e.claim.Foreign = fmt.Sprintf("status.loadBalancer is written by %q, so Fairlead keeps off: remove that controller or give the Service another loadBalancerClass; to hand its address over to Fairlead, annotate it with fairlead.dev/take-over: \"true\"", other)
	case len(problems) > 0:
		e.claim.Invalid = joinMessages(problems)
	}
	e.terms = termsOf(wish)
	return e, true
}

func roleOf(service *corev1.Service, class string) role {
	switch {
	case config.Ours(service, class):
		return ours
	case service.Spec.Type != corev1.ServiceTypeLoadBalancer && meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAllocated) != nil:
		return leaving
	}
	return stranger
}

// foreignOwner returns who wrote the addresses in a Service's status, "" if it was the controller, nobody, or nobody
// knows.
func foreignOwner(service *corev1.Service) string {
	if len(service.Status.LoadBalancer.Ingress) == 0 {
		return ""
	}
	other := ""
	for _, fields := range service.ManagedFields {
		if !ownsIngress(fields) {
			continue
		}
		if fields.Manager == fieldManager {
			return ""
		}
		other = fields.Manager
	}
	return other
}

// ownsIngress reports whether a field manager wrote status.loadBalancer.ingress. strip leaves only such entries, without
// their fields.
func ownsIngress(fields metav1.ManagedFieldsEntry) bool {
	if fields.FieldsV1 == nil {
		return fields.Subresource == "status"
	}
	var owned struct {
		Status struct {
			LoadBalancer map[string]json.RawMessage `json:"f:loadBalancer"`
		} `json:"f:status"`
	}
	if err := json.Unmarshal(fields.FieldsV1.GetRawBytes(), &owned); err != nil {
		return false
	}
	_, ingress := owned.Status.LoadBalancer["f:ingress"]
	return ingress
}

// strip keeps of a Service what the controller reads, so that many fit into the cache. Doing it again changes nothing.
func strip(service *corev1.Service) {
	var owners []metav1.ManagedFieldsEntry
	for _, fields := range service.ManagedFields {
		if ownsIngress(fields) {
			owners = append(owners, metav1.ManagedFieldsEntry{Manager: fields.Manager, Subresource: "status"})
		}
	}
	service.ManagedFields = owners
	delete(service.Annotations, corev1.LastAppliedConfigAnnotation)
	service.OwnerReferences, service.Finalizers = nil, nil
	service.Spec.SessionAffinityConfig, service.Spec.LoadBalancerSourceRanges = nil, nil
}

// termsOf hashes on what terms a Service shares its addresses.
func termsOf(wish config.Wish) uint64 {
	hash := fnv.New64a()
	fmt.Fprint(hash, wish.Sharing)
	return hash.Sum64()
}

// compareEntries orders by namespace, then by name.
func compareEntries(a, b entry) int {
	return cmp.Or(strings.Compare(a.claim.Service.Namespace, b.claim.Service.Namespace), strings.Compare(a.claim.Service.Name, b.claim.Service.Name))
}

// claims returns the claims of all Services, with the labels of their namespaces.
func (w world) claims(namespaces map[string]labels.Set) []ipam.Claim {
	claims := make([]ipam.Claim, len(w.services))
	for i, e := range w.services {
		claims[i] = e.claim
		claims[i].NamespaceLabels = namespaces[e.claim.Service.Namespace]
		before, known := w.terms[e.claim.Service]
		claims[i].Changed = known && before != e.terms
	}
	return claims
}

// agreedTerms returns the terms of sharing to remember: those of now for a Service that keeps what it has, those of
// before for one that has to give way to others first.
func (w world) agreedTerms(grants []ipam.Grant) map[types.NamespacedName]uint64 {
	terms := make(map[types.NamespacedName]uint64, len(w.services))
	for i, e := range w.services {
		before, known := w.terms[e.claim.Service]
		terms[e.claim.Service] = e.terms
		if known && slices.ContainsFunc(e.claim.Held, func(a netip.Addr) bool { return !slices.Contains(grants[i].Addrs, a) }) {
			terms[e.claim.Service] = before
		}
	}
	return terms
}

// taken returns what the cluster itself uses and no pool may hold.
func taken(nodes []corev1.Node, serviceCIDRs map[string][]string) []config.Taken {
	var all []config.Taken
	add := func(owner, text string) {
		if r, err := config.ParsePrefix(text); err == nil {
			all = append(all, config.Taken{Prefix: r, Owner: owner})
		}
	}
	for _, node := range nodes {
		for _, address := range node.Status.Addresses {
			add("node "+node.Name, address.Address)
		}
		for _, cidr := range node.Spec.PodCIDRs {
			add("the pods of node "+node.Name, cidr)
		}
	}
	for name, cidrs := range serviceCIDRs {
		for _, cidr := range cidrs {
			add("ServiceCIDR "+name, cidr)
		}
	}
	slices.SortFunc(all, func(a, b config.Taken) int {
		return cmp.Or(strings.Compare(a.Owner, b.Owner), a.Prefix.Compare(b.Prefix))
	})
	return all
}

func joinMessages(problems []config.Problem) string {
	var messages []string
	for _, p := range problems {
		messages = append(messages, p.Message)
	}
	return strings.Join(messages, "; ")
}
