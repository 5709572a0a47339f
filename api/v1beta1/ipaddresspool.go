package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressRange is a CIDR ("192.168.10.0/24"), a range with both ends included ("192.168.10.5-192.168.10.20"), or a
// single address. A CIDR has no host bits, both ends of a range have one family.
//
// +kubebuilder:validation:MaxLength=84
// +kubebuilder:validation:XValidation:rule="self.contains('/') ? isCIDR(self) : (self.contains('-') ? self.split('-').size() == 2 && self.split('-').all(end, isIP(end.trim())) : isIP(self))",messageExpression="'\"' + self + '\" is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20'"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",messageExpression="'\"' + self + '\" has bits set after its prefix: write ' + self.split('/')[0] + ' for the one address, or the first address of the network before /' + self.split('/')[1] + ' for the whole network'"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || self.split('-').size() != 2 || !self.split('-').all(end, isIP(end.trim())) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",messageExpression="'\"' + self + '\" begins in one address family and ends in the other: write two ranges, one of IPv4 and one of IPv6'"
type AddressRange string

// IPAddressPoolSpec says which addresses may be given to Services, and to which Services.
type IPAddressPoolSpec struct {
	// Ranges of addresses of this pool: CIDRs such as 192.168.10.0/24, or first-last such as
	// 192.168.10.5-192.168.10.20. IPv4 and IPv6 may be mixed.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Addresses []AddressRange `json:"addresses"`

	// Ranges inside `addresses` that are never given to a Service: the gateway, a DHCP range, a printer.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Exclude []AddressRange `json:"exclude,omitempty"`

	// Whether a Service that names neither this pool nor an address may get one of this pool's addresses.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// Whether to leave out IPv4 addresses that end in .0 and .255 when an address is chosen automatically: some old
	// routers and firewalls drop their traffic. An address that a Service holds or asks for by name stays legal.
	// +optional
	// +kubebuilder:default=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Which Services may use this pool, and which pool is tried first. Pools that have this field are tried before
	// pools that do not.
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// Addresses kept for one Service each. That Service gets its address, also after it was deleted and made again,
	// and no other Service ever does.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	// +listType=map
	// +listMapKey=address
	Reservations []Reservation `json:"reservations,omitempty"`

	// For how long an address that a Service gave back is kept from every other Service, so that clients with an old
	// DNS answer or neighbour entry do not meet a stranger: "0s", "10m", "1h30m".
	// +optional
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 0s, 10m or 1h30m'"
	Cooldown *metav1.Duration `json:"cooldown,omitempty"`
}

// ServiceAllocation restricts a pool to some Services. An empty list restricts nothing.
type ServiceAllocation struct {
	// Order in which pools are tried: the lowest number first; 0 or nothing means after all others. Pools of equal
	// priority are tried by name.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int32 `json:"priority,omitempty"`

	// Namespaces whose Services may use this pool, beside those that `namespaceSelectors` select.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	// +listType=atomic
	Namespaces []string `json:"namespaces,omitempty"`

	// Labels of namespaces whose Services may use this pool: one selector that matches is enough.
	// +optional
	// +listType=atomic
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// Labels of Services that may use this pool: one selector that matches is enough. Where namespaces are restricted
	// too, a Service must satisfy both.
	// +optional
	// +listType=atomic
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// Reservation keeps one address for one Service.
type Reservation struct {
	// The address. It must lie in `addresses` of the same pool and not in `exclude`.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="'\"' + self + '\" is not one address: write an address of this pool, such as 192.168.10.7'"
	Address string `json:"address"`

	// Namespace of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// Name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
}

// IPAddressPoolStatus is written by the controller and by nobody else.
type IPAddressPoolStatus struct {
	// How many IPv4 addresses of this pool Services hold.
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`

	// How many IPv6 addresses of this pool Services hold.
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`

	// How many IPv4 addresses of this pool nobody holds. Excluded, refused and overlapped addresses do not count.
	// +optional
	AvailableIPv4 int64 `json:"availableIPv4"`

	// How many IPv6 addresses of this pool nobody holds, 9223372036854775807 if there are more.
	// +optional
	AvailableIPv6 int64 `json:"availableIPv6"`

	// Who holds or lately held an address, kept only for pools with a cooldown, so that the cooldown outlives a
	// restart of the controller. Sorted by address.
	// +optional
	// +listType=map
	// +listMapKey=address
	Leases []Lease `json:"leases,omitempty"`

	// Ready, Overlaps, Draining.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Lease remembers the last holder of an address.
type Lease struct {
	// The address.
	Address string `json:"address"`

	// The Service that holds or held it, as namespace/name. Of several that share it, the first by name.
	Service string `json:"service"`

	// When the Service gave the address back. Absent while the Service holds it.
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
}

// IPAddressPool is a set of addresses for Services of type LoadBalancer.
//
// A pool alone is enough: its addresses are announced by Layer 2 on the interfaces whose subnet holds them, unless an
// advertisement selects the pool.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=ipap;ippool
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Used IPv4",type=integer,JSONPath=`.status.assignedIPv4`
// +kubebuilder:printcolumn:name="Free IPv4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Used IPv6",type=integer,JSONPath=`.status.assignedIPv6`
// +kubebuilder:printcolumn:name="Free IPv6",type=integer,JSONPath=`.status.availableIPv6`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`,priority=1
// +kubebuilder:printcolumn:name="Avoid Buggy IPs",type=boolean,JSONPath=`.spec.avoidBuggyIPs`,priority=1
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`,priority=1
// +kubebuilder:printcolumn:name="Overlaps",type=string,JSONPath=`.status.conditions[?(@.type=="Overlaps")].status`,priority=1
// +kubebuilder:printcolumn:name="Draining",type=string,JSONPath=`.status.conditions[?(@.type=="Draining")].status`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAddressPoolSpec `json:"spec"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
