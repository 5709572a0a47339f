package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SpeakerStatus is written by the speaker on the node the object is named after, and by nobody else. Every list is
// sorted by its first field.
type SpeakerStatus struct {
	// The addresses this node announces by Layer 2, and why it is this node that does.
	// +optional
	// +listType=map
	// +listMapKey=address
	Addresses []AnnouncedAddress `json:"addresses,omitempty"`

	// The BGP sessions of this node.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []PeerSession `json:"peers,omitempty"`

	// The addresses this node announces by BGP, by the peers that know them. An address that is told to one peer as an
	// address and to another as part of a prefix counts for both.
	// +optional
	// +listType=map
	// +listMapKey=peers
	Routes []PeerRoutes `json:"routes,omitempty"`

	// How traffic to Services is forwarded on this node.
	// +optional
	Forwarding *ForwardingStatus `json:"forwarding,omitempty"`

	// The speakers this one knows, itself included.
	// +optional
	// +listType=map
	// +listMapKey=name
	Members []Member `json:"members,omitempty"`

	// The interfaces this speaker can announce on.
	// +optional
	// +listType=map
	// +listMapKey=name
	Links []Link `json:"links,omitempty"`

	// What this node would do but cannot, and why.
	// +optional
	// +listType=atomic
	Problems []SpeakerProblem `json:"problems,omitempty"`

	// Lengths of the lists above, for kubectl get.
	// +optional
	Counts SpeakerCounts `json:"counts,omitempty"`

	// Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AnnouncedAddress is an address that a node announces.
type AnnouncedAddress struct {
	// The address.
	Address string `json:"address"`

	// The Services behind it, as namespace/name, sorted.
	// +optional
	// +listType=atomic
	Services []string `json:"services,omitempty"`

	// The interface it is announced on.
	// +optional
	Link string `json:"link,omitempty"`

	// The MAC address that answers for it.
	// +optional
	MAC string `json:"mac,omitempty"`

	// Since when this node announces it.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Why it is this node that announces it.
	// +optional
	Reason string `json:"reason,omitempty"`

	// The node that would announce it if this one could not.
	// +optional
	RunnerUp string `json:"runnerUp,omitempty"`
}

// ForwardingStatus says whether and how this node forwards traffic to Services.
type ForwardingStatus struct {
	// Whether this speaker forwards.
	Active bool `json:"active"`

	// What was asked for: auto, on or off.
	// +optional
	Mode string `json:"mode,omitempty"`

	// Why forwarding is active or not, in one word.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Number of the last change to the kernel's table.
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// How many Services are in the kernel's table.
	// +optional
	Services int32 `json:"services"`

	// How many endpoints are in the kernel's table.
	// +optional
	Endpoints int32 `json:"endpoints"`

	// When the kernel's table was last known to be what it should be.
	// +optional
	LastSync *metav1.Time `json:"lastSync,omitempty"`

	// What went wrong at the last attempt. Empty if nothing did.
	// +optional
	LastError string `json:"lastError,omitempty"`
}

// Member is a speaker as another speaker sees it.
type Member struct {
	// The name of its node.
	Name string `json:"name"`

	// Where its gossip is heard from, as address:port.
	// +optional
	Address string `json:"address,omitempty"`

	// Alive, suspect, dead or left.
	// +optional
	State string `json:"state,omitempty"`
}

// Link is a network interface of a node.
type Link struct {
	// Its name.
	Name string `json:"name"`

	// Its MAC address.
	// +optional
	MAC string `json:"mac,omitempty"`

	// Its addresses with their prefix lengths, sorted.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
}

// SpeakerProblem is something this node cannot do.
type SpeakerProblem struct {
	// What it is about, as kind/name or kind/namespace/name: "service/default/web".
	Object string `json:"object"`

	// The reason in one word.
	Reason string `json:"reason"`

	// The reason in a sentence, with what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// SpeakerCounts are the lengths of a speaker's lists: printer columns cannot count.
type SpeakerCounts struct {
	// How many addresses this node announces by Layer 2.
	// +optional
	Addresses int32 `json:"addresses"`

	// How many of its BGP sessions are established.
	// +optional
	Peers int32 `json:"peers"`

	// How many speakers this one knows to be alive, itself included.
	// +optional
	Members int32 `json:"members"`

	// How many problems this node has.
	// +optional
	Problems int32 `json:"problems"`
}

// Speaker says what the speaker on one node does. It is named after the node and has no spec.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=spk
// +kubebuilder:printcolumn:name="Addresses",type=integer,JSONPath=`.status.counts.addresses`
// +kubebuilder:printcolumn:name="Peers",type=integer,JSONPath=`.status.counts.peers`
// +kubebuilder:printcolumn:name="Forwarding",type=string,JSONPath=`.status.forwarding.reason`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.counts.members`
// +kubebuilder:printcolumn:name="Problems",type=integer,JSONPath=`.status.counts.problems`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Speaker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the speaker", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status SpeakerStatus `json:"status,omitempty"`
}

// SpeakerList is a list of speakers.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Speaker `json:"items"`
}
