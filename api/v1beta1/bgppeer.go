package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DynamicASN says which autonomous systems a peer may be in when its number is not given.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

const (
	// DynamicASNInternal accepts a peer with our own number only.
	DynamicASNInternal DynamicASN = "internal"
	// DynamicASNExternal accepts a peer with any number but our own.
	DynamicASNExternal DynamicASN = "external"
)

// PeerFrom says where a node takes the peer's address from.
//
// +kubebuilder:validation:Enum=DefaultGateway
type PeerFrom string

// PeerFromDefaultGateway makes each node's default gateway the peer: that of IPv4, or that of IPv6 where there is none.
const PeerFromDefaultGateway PeerFrom = "DefaultGateway"

// BGPPeerSpec says which router to speak BGP with, and how. Every node that `nodeSelectors` selects has a session of its
// own. A change of these settings touches this peer's sessions only.
//
// +kubebuilder:validation:XValidation:rule="has(self.dynamicASN) != (has(self.peerASN) && self.peerASN != 0)",message="either peerASN or dynamicASN must be set, not both: write the peer's AS number in peerASN, or dynamicASN: external to accept any number but our own"
// +kubebuilder:validation:XValidation:rule="has(self.peerAddress) || has(self.interface) || has(self.peerFrom)",message="the peer is missing: write its address in peerAddress, the interface it is on in interface (unnumbered), or peerFrom: DefaultGateway"
// +kubebuilder:validation:XValidation:rule="!has(self.peerFrom) || !has(self.peerAddress) && !has(self.interface)",message="peerFrom finds the peer by itself: remove peerAddress and interface, or remove peerFrom"
// +kubebuilder:validation:XValidation:rule="!has(self.peerAddress) || !isIP(self.peerAddress) || !ip(self.peerAddress).isLinkLocalUnicast() || has(self.interface)",message="peerAddress is a link-local address, which every interface has: write in interface where the peer is"
// +kubebuilder:validation:XValidation:rule="!(has(self.password) && self.password.size() > 0 && has(self.passwordSecret) && has(self.passwordSecret.name) && self.passwordSecret.name.size() > 0)",message="password and passwordSecret are both set: keep passwordSecret and remove password"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !(has(self.dynamicASN) && self.dynamicASN == 'internal' || has(self.peerASN) && self.peerASN == (has(self.localASN) ? self.localASN : self.myASN))",message="ebgpMultiHop is for peers of another AS: an internal peer may be any number of hops away, remove ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || has(self.peerAddress) || has(self.peerFrom)",message="ebgpMultiHop needs peerAddress: an unnumbered peer is always on the link"
// +kubebuilder:validation:XValidation:rule="!has(self.ttlSecurity) || !has(self.ebgpMultiHop) || !self.ebgpMultiHop",message="ttlSecurity and ebgpMultiHop exclude each other: write in ttlSecurity how many hops away the peer is, and remove ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",message="sourceAddress and peerAddress are of different families: write two addresses of one family"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || !self.holdTime.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || !self.keepaliveTime.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self.keepaliveTime) < duration(self.holdTime)",message="keepaliveTime must be shorter than holdTime: a third of it is usual, such as holdTime: 9s and keepaliveTime: 3s"
// +kubebuilder:validation:XValidation:rule="!has(self.gracefulRestartTime) || (has(self.enableGracefulRestart) && self.enableGracefulRestart)",message="gracefulRestartTime has no effect without enableGracefulRestart: true: add it, or remove gracefulRestartTime"
type BGPPeerSpec struct {
	// Our AS number.
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN uint32 `json:"myASN"`

	// The peer's AS number. Our own makes the session internal (iBGP).
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN uint32 `json:"peerASN,omitempty"`

	// Which numbers the peer may have, where peerASN is not given: our own (internal), or any other (external).
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// An AS number to use towards this peer in place of myASN.
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN uint32 `json:"localASN,omitempty"`

	// The peer's address.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="'\"' + self + '\" is not an address: write the address of the router, such as 192.168.1.1 or fd00::1'"
	PeerAddress string `json:"peerAddress,omitempty"`

	// Without peerAddress: the interface at whose other end the peer is (unnumbered BGP). The peer is found by its IPv6
	// router advertisements and needs no address. With peerAddress: the interface to reach it through.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	Interface string `json:"interface,omitempty"`

	// Where each node takes the peer's address from, in place of peerAddress: DefaultGateway.
	// +optional
	PeerFrom PeerFrom `json:"peerFrom,omitempty"`

	// The peer's TCP port.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort int32 `json:"peerPort,omitempty"`

	// The TCP port of the nodes where the peer may connect to them, such as 179. By default only the nodes connect, and no
	// port of theirs is open. With it either side may be first; who is no BGPPeer is turned away.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ListenPort int32 `json:"listenPort,omitempty"`

	// The address to connect from. It must be one of the node's, so a peer that has it selects one node by
	// nodeSelectors.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="'\"' + self + '\" is not an address: write an address of the node, such as 192.168.1.11'"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// For how long nothing may be heard of the other side, such as 9s. The lower of the two sides' counts. Default: three
	// times keepaliveTime, or 90s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 9s or 90s'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) >= duration('3s') && duration(self) <= duration('65535s')",messageExpression="'a hold time of ' + self + ' is not possible: write 3s to 65535s; for detection below 3 s use a bfdProfile'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self).getMilliseconds() % 1000 == 0",messageExpression="'BGP counts in seconds: write ' + self + ' without a fraction of one'"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// How often to say that we are there, such as 3s. Default, and 0s: a third of the hold time.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 3s or 30s'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self).getMilliseconds() % 1000 == 0",messageExpression="'BGP counts in seconds: write ' + self + ' without a fraction of one'"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// The longest pause between two attempts to connect, such as 5s, which is the default.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 5s or 2m'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) >= duration('1s') && duration(self) <= duration('65535s')",messageExpression="'a connect time of ' + self + ' is not possible: write 1s to 65535s'"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// Our BGP identifier, written as an IPv4 address. Default: the node's IPv4 address, or a number made from its name.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified()",messageExpression="'\"' + self + '\" is not a router ID: write it as an IPv4 address, such as 10.0.0.1'"
	RouterID string `json:"routerID,omitempty"`

	// Labels of the nodes that have a session with this peer: one selector that matches is enough. Empty: all nodes.
	// +optional
	// +listType=atomic
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// The TCP MD5 password (RFC 2385). Everybody who may read this object reads it: passwordSecret is better.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Password string `json:"password,omitempty"`

	// The Secret, in the namespace Fairlead runs in, whose key `password` holds the TCP MD5 password. While it is
	// missing, the sessions of this peer stay down and say so.
	// +optional
	PasswordSecret SecretReference `json:"passwordSecret,omitempty"`

	// The BFDProfile by which the path to the peer is watched. Empty: it is not.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BFDProfile string `json:"bfdProfile,omitempty"`

	// Whether the peer shall keep our routes while the speaker restarts (RFC 4724).
	// +optional
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`

	// For how long the peer keeps our routes after the session broke: 1s to 4095s. Default: 60s. A node that died without
	// BFD attracts traffic for as long.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 60s or 2m'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) >= duration('1s') && duration(self) <= duration('4095s')",messageExpression="'a restart time of ' + self + ' is not possible: write 1s to 4095s'"
	GracefulRestartTime *metav1.Duration `json:"gracefulRestartTime,omitempty"`

	// For how long the peer is asked to prefer other nodes (GRACEFUL_SHUTDOWN, RFC 8326) before the routes of a node
	// that is drained or shut down are withdrawn. Default: 5s; 0s withdraws at once.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",messageExpression="'\"' + self + '\" is not a length of time: write a number and a unit, such as 5s or 1m'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) <= duration('1h')",messageExpression="'a drain time of ' + self + ' is too long: write at most 1h'"
	DrainTime *metav1.Duration `json:"drainTime,omitempty"`

	// Whether the peer, of another AS, is more than one hop away.
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// How many hops away the peer may be at most (GTSM, RFC 5082): 1 for a peer on the link. What comes from further
	// away is not listened to. The peer must have this switched on as well.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurity int32 `json:"ttlSecurity,omitempty"`

	// The VRF device of the node in which the peer is.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	VRFName string `json:"vrf,omitempty"`

	// Accepted and without effect, as in MetalLB.
	// +optional
	DisableMP bool `json:"disableMP,omitempty"`

	// Whether the one session carries both IPv4 and IPv6 routes. Without it a session carries the family of
	// peerAddress; that of an unnumbered peer carries both.
	// +optional
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`
}

// SecretReference names a Secret.
type SecretReference struct {
	// Its name.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// Accepted and not used: Secrets are read in the namespace Fairlead runs in.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// BGPPeerStatus is written by the controller and by nobody else.
type BGPPeerStatus struct {
	// How many nodes should have a session with the peer.
	// +optional
	Nodes int32 `json:"nodes"`

	// How many of them have one that is established.
	// +optional
	Established int32 `json:"established"`

	// Ready, Established.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeer is a router that nodes speak BGP with.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead,shortName=bgpp
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="Established",type=integer,JSONPath=`.status.established`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="My ASN",type=string,JSONPath=`.spec.myASN`,priority=1
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`,priority=1
// +kubebuilder:printcolumn:name="Multi Hop",type=boolean,JSONPath=`.spec.ebgpMultiHop`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BGPPeerSpec `json:"spec"`

	// +optional
	// +kubebuilder:default={conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerList is a list of peers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
