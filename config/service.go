package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// Keys of annotations on Services, without their prefix.
const (
	keyAddresses         = "loadBalancerIPs"
	keyPool              = "address-pool"
	keySharing           = "allow-shared-ip"
	keySharingNamespaces = "allow-shared-ip-namespaces"
	keyAllocatedFrom     = "ip-allocated-from-pool"
	keyTakeOver          = "take-over"
)

// DeleteInUse is the annotation of a pool that may be deleted at once although Services hold addresses of it.
const DeleteInUse = v1beta1.Group + "/delete-in-use"

// AllocatedFrom is the annotation in which the controller remembers the pools a Service's addresses came from, in the
// order of the addresses. It is what tells a pool that shrank from a Service that asks for another pool.
const AllocatedFrom = v1beta1.Group + "/" + keyAllocatedFrom

// prefixes are the spellings of our annotations; the first that is set counts.
func prefixes() []string { return []string{v1beta1.Group + "/", "metallb.io/", "metallb.universe.tf/"} }

// Wish is what a Service of type LoadBalancer asks for and what it holds.
type Wish struct {
	Service types.NamespacedName
	Created time.Time
	Labels  labels.Set

	Families  []Family     // wanted, the preferred one first; never empty
	Need      FamilyPolicy // how many of them it must have
	Addresses []netip.Addr // asked for by name: sorted, without duplicates
	Pools     []string     // asked for by name, in this order; empty: any
	Sharing   Sharing

	Held     []netip.Addr // the addresses in its status, in that order
	From     []string     // the pools they came from, as far as known
	TakeOver bool         // its status may be taken over from another controller
}

// FamilyPolicy says how many of the wanted families a Service must have.
type FamilyPolicy uint8

const (
	// NeedFirst is for a Service with one family.
	NeedFirst FamilyPolicy = iota
	// NeedAny is PreferDualStack: one now, the other when it becomes possible.
	NeedAny
	// NeedAll is RequireDualStack: all or nothing.
	NeedAll
)

// Sharing says on which terms a Service shares its address.
type Sharing struct {
	Key        string   // empty: not at all
	Namespaces []string // other namespaces it shares with: sorted
	Ports      []Port   // sorted
	Local      bool     // externalTrafficPolicy: Local
	Selector   string   // its pod selector, in a canonical form
}

// Port is what two Services that share an address must not both have.
type Port struct {
	Protocol corev1.Protocol
	Number   int32
}

// String returns "80/TCP".
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// Ours reports whether a Service asks Fairlead for an address: it is of type LoadBalancer and of the given class. With
// an empty class, Services without a class are ours.
func Ours(service *corev1.Service, class string) bool {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if service.Spec.LoadBalancerClass == nil {
		return class == ""
	}
	return *service.Spec.LoadBalancerClass == class
}

// Addresses returns the addresses Fairlead gave a Service, in the order of its status. Addresses that another controller
// wrote are not ours to announce and are left out.
func Addresses(service *corev1.Service) []netip.Addr {
	allocated := meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAllocated)
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || allocated == nil || allocated.Reason == v1beta1.ReasonStatusOwnedByOther {
		return nil
	}
	return Ingress(service)
}

// Ingress returns the addresses in a Service's status, whoever wrote them.
func Ingress(service *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if addr, err := parseAddr(ingress.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// unique returns the addresses without those that came before.
func unique(addrs []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, addr := range addrs {
		if !slices.Contains(kept, addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}

// ReadService reads what a Service asks for. A problem means the request cannot be understood: the Service then keeps
// what it holds and gets nothing.
func ReadService(service *corev1.Service) (Wish, []Problem) {
	wish := Wish{
		Service: types.NamespacedName{Namespace: service.Namespace, Name: service.Name},
		Created: service.CreationTimestamp.Time,
		Labels:  labels.Set(service.Labels),
		Pools:   list(annotation(service, keyPool)),
		Sharing: readSharing(service),
		Held:    unique(Ingress(service)),
		From:    list(annotation(service, keyAllocatedFrom)),
	}
	wish.TakeOver = service.Annotations[v1beta1.Group+"/"+keyTakeOver] == "true"
	wish.Families, wish.Need = readFamilies(service)
	var problems []Problem
	wish.Addresses, problems = readAddresses(service)
	for _, addr := range wish.Addresses {
		if !slices.Contains(wish.Families, FamilyOf(addr)) {
			problems = append(problems, invalid(service, "it asks for %s but its ipFamilies have no %s: ask for an address of a family it has, or set ipFamilyPolicy", addr, FamilyOf(addr)))
		}
	}
	return wish, problems
}

func invalid(service *corev1.Service, format string, args ...any) Problem {
	return Problem{"service/" + service.Namespace + "/" + service.Name, v1beta1.ReasonRequestInvalid, fmt.Sprintf(format, args...)}
}

// annotation returns the value of one of our annotations under the first prefix it is set with.
func annotation(service *corev1.Service, key string) string {
	for _, prefix := range prefixes() {
		if value, ok := service.Annotations[prefix+key]; ok {
			return value
		}
	}
	return ""
}

// list splits at commas and drops blanks and empty parts.
func list(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

func readFamilies(service *corev1.Service) ([]Family, FamilyPolicy) {
	var families []Family
	for _, family := range service.Spec.IPFamilies {
		families = append(families, familyFrom(family))
	}
	if len(families) == 0 {
		families = []Family{IPv4}
	}
	policy := service.Spec.IPFamilyPolicy
	switch {
	case policy != nil && *policy == corev1.IPFamilyPolicyRequireDualStack:
		return families, NeedAll
	case len(families) > 1:
		return families, NeedAny
	}
	return families, NeedFirst
}

// readAddresses returns what loadBalancerIPs and spec.loadBalancerIP ask for. They may both be set if they agree.
func readAddresses(service *corev1.Service) ([]netip.Addr, []Problem) {
	asked, problems := parseAddresses(service, keyAddresses, annotation(service, keyAddresses))
	field, found := parseAddresses(service, "spec.loadBalancerIP", service.Spec.LoadBalancerIP)
	problems = append(problems, found...)
	switch {
	case len(asked) == 0:
		return field, problems
	case len(field) == 1 && !slices.Contains(asked, field[0]):
		problems = append(problems, invalid(service, "loadBalancerIPs and spec.loadBalancerIP ask for different addresses: remove spec.loadBalancerIP"))
	}
	return asked, problems
}

func parseAddresses(service *corev1.Service, where, text string) ([]netip.Addr, []Problem) {
	var addrs []netip.Addr
	var problems []Problem
	for _, part := range list(text) {
		addr, err := parseAddr(part)
		if err != nil {
			problems = append(problems, invalid(service, "%s asks for %q, which is not an address: write addresses with commas between them, such as 192.168.10.7,fd00::7", where, part))
			continue
		}
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), problems
}

func readSharing(service *corev1.Service) Sharing {
	sharing := Sharing{
		Key:        annotation(service, keySharing),
		Namespaces: list(annotation(service, keySharingNamespaces)),
		Local:      service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Selector:   labels.Set(service.Spec.Selector).String(),
	}
	slices.Sort(sharing.Namespaces)
	for _, port := range service.Spec.Ports {
		sharing.Ports = append(sharing.Ports, Port{cmp.Or(port.Protocol, corev1.ProtocolTCP), port.Port})
	}
	slices.SortFunc(sharing.Ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
	})
	return sharing
}
