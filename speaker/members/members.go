// Package members knows which speakers are alive: encrypted gossip (hashicorp/memberlist)
// between the nodes themselves, without the API server. Each member carries a small
// document, its meta, that all others learn; what is in it is the caller's business.
//
// Out of scope: who the peers are (the caller finds them and says so), what a death means.
package members

import (
	"net/netip"
	"time"
)

// MaxMeta is the largest meta in bytes.
const MaxMeta = 16 << 10

// State says how a member stands.
type State int

const (
	// Alive members answer, themselves or through others.
	Alive State = iota
	// Left members said goodbye.
	Left
	// Dead members went silent.
	Dead
)

// String is the word for people and for metrics: "alive", "left" or "dead".
func (s State) String() string { return [...]string{"alive", "left", "dead"}[s] }

// Member is one speaker as this one sees it.
type Member struct {
	Name    string
	Address netip.AddrPort
	State   State
	Since   time.Time // when it came to this state, by our clock
	Meta    []byte    // nil until it was heard; kept after a death
}

// Defaults of Config, for a LAN: a silent node is dead within a second.
const (
	DefaultProbe     = 150 * time.Millisecond
	DefaultTimeout   = 75 * time.Millisecond
	DefaultSuspicion = 2
)

// Config says how to gossip. Zero durations and numbers mean the defaults.
type Config struct {
	Name      string         // of this node, unique
	Bind      netip.AddrPort // to listen on (UDP and TCP); port 0 picks one; the address is also what others are told
	Key       []byte         // AES key of 16, 24 or 32 bytes, the same on all; others are not heard
	Probe     time.Duration  // how often one member is probed
	Timeout   time.Duration  // how long it may take to answer
	Suspicion int            // how many probes long it is suspected before it is dead
	Rejoin    time.Duration  // how often peers that are no members are called: 5 s (1 s for those lost lately)
}
