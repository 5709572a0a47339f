package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PeerSession is a node's BGP session with one BGPPeer.
type PeerSession struct {
	// Name of the BGPPeer.
	Name string `json:"name"`

	// The peer's address; of an unnumbered one as it was found, empty until then.
	// +optional
	Address string `json:"address,omitempty"`

	// The peer's AS number, as it last told us.
	// +optional
	// +kubebuilder:validation:Format=int64
	ASN uint32 `json:"asn,omitempty"`

	// The peer's router ID, as it last told us.
	// +optional
	RouterID string `json:"routerID,omitempty"`

	// Our address in the session.
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`

	// Blocked, Idle, Connect, OpenSent, OpenConfirm or Established.
	State string `json:"state"`

	// Since when the session is in this state.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Why the session is not established, in a sentence.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Why the last session or attempt ended, with the text of the NOTIFICATION if there was one. It stays when the
	// session is back.
	// +optional
	LastError string `json:"lastError,omitempty"`

	// When that was.
	// +optional
	LastErrorAt *metav1.Time `json:"lastErrorAt,omitempty"`

	// How many prefixes the peer knows from this node.
	// +optional
	Prefixes int32 `json:"prefixes"`

	// State of the BFD session that watches the path: Up, Down, Init or AdminDown. Empty if none does.
	// +optional
	BFD string `json:"bfd,omitempty"`

	// Why the BFD session is not up, in a sentence.
	// +optional
	BFDReason string `json:"bfdReason,omitempty"`

	// The address families both sides agreed on: ipv4-unicast, ipv6-unicast.
	// +optional
	// +listType=atomic
	Families []string `json:"families,omitempty"`

	// The hold time both sides agreed on.
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// How often we say that we are there.
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// Whether both sides agreed on graceful restart.
	// +optional
	GracefulRestart bool `json:"gracefulRestart,omitempty"`
}

// PeerRoutes are addresses that the same peers know from a node.
type PeerRoutes struct {
	// Names of the BGPPeers with an established session, with a comma between them, sorted.
	Peers string `json:"peers"`

	// The addresses, sorted: single ones, and first-last where several follow each other.
	// +listType=atomic
	Addresses []string `json:"addresses"`
}
