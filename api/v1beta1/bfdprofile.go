package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfileSpec says how the path to a peer is watched with Bidirectional Forwarding Detection (RFC 5880). Intervals
// are in milliseconds.
type BFDProfileSpec struct {
	// The shortest interval at which we want the peer's packets. Default: 300.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Maximum=60000
	// +kubebuilder:validation:XValidation:rule="self >= 50",message="an interval below 50 ms takes a busy node for a broken path: write at least 50; 100 with a detectMultiplier of 3 notices a failure in 0.3 s"
	ReceiveInterval *int32 `json:"receiveInterval,omitempty"`

	// The interval at which we want to send. Default: 300.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Maximum=60000
	// +kubebuilder:validation:XValidation:rule="self >= 50",message="an interval below 50 ms takes a busy node for a broken path: write at least 50; 100 with a detectMultiplier of 3 notices a failure in 0.3 s"
	TransmitInterval *int32 `json:"transmitInterval,omitempty"`

	// How many packets in a row may be lost before the path counts as broken. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`

	// The shortest interval at which the peer may send echo packets, which the nodes send back to it, and with echoMode the
	// one at which the nodes send theirs. Default: 50.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	EchoInterval *int32 `json:"echoInterval,omitempty"`

	// Whether to send echo packets, which the peer sends back. The path counts as broken when detectMultiplier of them in a
	// row do not come back, and control packets become rare. Not for peers several hops away.
	// +optional
	EchoMode *bool `json:"echoMode,omitempty"`

	// Whether to wait for the peer to begin.
	// +optional
	PassiveMode *bool `json:"passiveMode,omitempty"`

	// The lowest TTL of packets of a peer that is several hops away. Default: 254.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// BFDProfileStatus is written by the controller and by nobody else.
type BFDProfileStatus struct {
	// Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BFDProfile is a way to watch the paths to peers. BGPPeers name it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=bfdp
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Receive",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Transmit",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Passive",type=boolean,JSONPath=`.spec.passiveMode`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	// +kubebuilder:default={}
	Spec BFDProfileSpec `json:"spec,omitempty"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status BFDProfileStatus `json:"status,omitempty"`
}

// BFDProfileList is a list of profiles.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}
