package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Failback says what happens when a node that is preferred for an address becomes able to announce it again.
//
// +kubebuilder:validation:Enum=auto;never;after
type Failback string

const (
	// FailbackAuto moves the address back at once.
	FailbackAuto Failback = "auto"
	// FailbackNever leaves the address where it is until its node can no longer announce it.
	FailbackNever Failback = "never"
	// FailbackAfter moves the address back once the preferred node has been able to for `failbackAfter`.
	FailbackAfter Failback = "after"
)

// ConflictPolicy says what happens when another host on the network already answers for an address.
//
// +kubebuilder:validation:Enum=Refuse;Announce
type ConflictPolicy string

const (
	// ConflictRefuse does not announce the address and says which MAC address uses it.
	ConflictRefuse ConflictPolicy = "Refuse"
	// ConflictAnnounce announces the address all the same.
	ConflictAnnounce ConflictPolicy = "Announce"
)

// L2AdvertisementSpec says which addresses are announced by ARP and NDP, from which nodes, on which interfaces. Several
// advertisements that select one pool add up.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failback) || self.failback != 'after' || has(self.failbackAfter)",message="failback is \"after\" but failbackAfter is missing: write for how long the preferred node must have been back, such as failbackAfter: 10m"
// +kubebuilder:validation:XValidation:rule="!has(self.failbackAfter) || (has(self.failback) && self.failback == 'after')",message="failbackAfter has no effect unless failback is \"after\": write failback: after, or remove failbackAfter"
type L2AdvertisementSpec struct {
	// Names of the pools whose addresses are announced, beside those that `ipAddressPoolSelectors` select. Where both
	// are empty, all pools are.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	// +listType=atomic
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// Labels of pools whose addresses are announced: one selector that matches is enough.
	// +optional
	// +listType=atomic
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// Labels of nodes that may announce: one selector that matches is enough. Empty: all nodes.
	// +optional
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Names of the interfaces to announce on, or patterns such as "eth*", "en[op]?s*". Empty: the interfaces whose
	// subnet holds the address.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.all(i, i.size() <= 15 || i.contains('*') || i.contains('?') || i.contains('['))",message="the name of an interface has at most 15 characters, unless it is a pattern with * or ? or [...]"
	// +listType=atomic
	Interfaces []string `json:"interfaces,omitempty"`

	// Labels of Services whose addresses are announced: one selector that matches is enough. Empty: all Services.
	// +optional
	// +listType=atomic
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// Which nodes announce rather than others: of the nodes that may, those with the greatest sum of weights do.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// Whether an address moves back to a preferred node that returns: at once (auto), not at all (never), or once it
	// has been back for a while (after).
	// +optional
	// +kubebuilder:default=auto
	Failback Failback `json:"failback,omitempty"`

	// For how long a preferred node must have been back, with failback: after. For example "10m".
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 30s, 10m or 1h30m'"
	FailbackAfter *metav1.Duration `json:"failbackAfter,omitempty"`

	// What to do when another host already answers for an address: not announce it and say so (Refuse), or announce
	// it all the same (Announce).
	// +optional
	// +kubebuilder:default=Refuse
	ConflictPolicy ConflictPolicy `json:"conflictPolicy,omitempty"`
}

// PreferredNodeSelector gives the nodes it selects a weight.
type PreferredNodeSelector struct {
	// From 1 to 100. The weights of all selectors that match a node add up.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// Labels of the nodes.
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementStatus is written by the controller and by nobody else.
type L2AdvertisementStatus struct {
	// Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2Advertisement announces addresses of pools by ARP (IPv4) and NDP (IPv6).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=l2adv
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`,priority=1
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	// +kubebuilder:default={}
	Spec L2AdvertisementSpec `json:"spec,omitempty"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementList is a list of Layer 2 advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
