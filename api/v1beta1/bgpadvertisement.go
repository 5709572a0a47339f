package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CommunityText is a BGP community, "65535:65282", a large one (RFC 8092), "large:64512:1:2", a well-known name such as
// "no-export", or a name that a Community object gives one.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="!self.contains(':') || self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$')",messageExpression="'\"' + self + '\" is not a community: write two numbers such as 64512:100, large: and three numbers such as large:64512:1:2, or a name'"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)",messageExpression="'\"' + self + '\" is not a community: each of its numbers is at most 65535; larger ones need large: and three numbers, such as large:4200000001:1:2'"
// +kubebuilder:validation:XValidation:rule="!self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.split(':').all(n, n == 'large' || int(n) <= 4294967295)",messageExpression="'\"' + self + '\" is not a large community: each of its numbers is at most 4294967295'"
type CommunityText string

// AddressKind is a kind of address that a Service has.
//
// +kubebuilder:validation:Enum=LoadBalancerIP;ClusterIP;ExternalIP
type AddressKind string

// The kinds of addresses.
const (
	// AddressLoadBalancer are the addresses that Fairlead gave the Service.
	AddressLoadBalancer AddressKind = "LoadBalancerIP"
	// AddressCluster are the Service's clusterIPs.
	AddressCluster AddressKind = "ClusterIP"
	// AddressExternal are the Service's spec.externalIPs.
	AddressExternal AddressKind = "ExternalIP"
)

// BGPAdvertisementSpec says which addresses are announced to which peers, from which nodes and with which attributes.
// Several advertisements that select one address add up: of one prefix the communities are united, the highest
// localPref, the lowest med and the smallest asPathPrepend count.
type BGPAdvertisementSpec struct {
	// Length of the prefix that is announced in place of an IPv4 address: 24 announces 192.168.10.0/24 for 192.168.10.7.
	// A prefix that would reach beyond the pool is not announced; the address itself is.
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// Length of the prefix that is announced in place of an IPv6 address.
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LOCAL_PREF of the routes, told to internal peers only. Routers prefer the highest; theirs is 100 by default.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *uint32 `json:"localPref,omitempty"`

	// MULTI_EXIT_DISC of the routes. Routers prefer the lowest.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *uint32 `json:"med,omitempty"`

	// How many times more our AS number is put in front of the AS path, told to external peers only. Routers prefer the
	// shortest path.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// BGP communities of the routes: "65535:65282", "large:64512:1:2", a well-known name (no-export, no-advertise,
	// local-as, no-peer, blackhole, graceful-shutdown, accept-own, llgr-stale, no-llgr), or a name that a Community
	// object gives one.
	// +optional
	// +kubebuilder:validation:MaxItems=63
	// +listType=atomic
	Communities []CommunityText `json:"communities,omitempty"`

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

	// Labels of nodes that announce: one selector that matches is enough. Empty: all nodes.
	// +optional
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// Names of the BGPPeers that are told. Empty: all.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	// +listType=atomic
	Peers []string `json:"peers,omitempty"`

	// Labels of Services whose addresses are announced: one selector that matches is enough. Empty: all Services.
	// +optional
	// +listType=atomic
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// Which addresses of the Services are announced. Pools are asked for with LoadBalancerIP only. ClusterIP and
	// ExternalIP are never aggregated.
	// +optional
	// +kubebuilder:default={LoadBalancerIP}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	// +listType=set
	ServiceAddresses []AddressKind `json:"serviceAddresses,omitempty"`
}

// BGPAdvertisementStatus is written by the controller and by nobody else.
type BGPAdvertisementStatus struct {
	// Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPAdvertisement announces addresses of Services by BGP.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=bgpadv
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`,priority=1
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
// +kubebuilder:printcolumn:name="Local Pref",type=integer,JSONPath=`.spec.localPref`,priority=1
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	// +kubebuilder:default={}
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status BGPAdvertisementStatus `json:"status,omitempty"`
}

// BGPAdvertisementList is a list of BGP advertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPAdvertisement `json:"items"`
}
