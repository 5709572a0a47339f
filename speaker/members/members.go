// Package members knows which speakers are alive: encrypted gossip (hashicorp/memberlist)
// between the nodes themselves, without the API server. Each member carries a small
// document, its meta, that all others learn; what is in it is the caller's business.
//
// Out of scope: who the peers are (the caller finds them and says so), what a death means.
package members

import (
	"context"
	"errors"
	"log/slog"
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

// Config says how to gossip. Zero durations and numbers mean the defaults.
type Config struct {
	Name      string         // of this node, unique
	Bind      netip.AddrPort // to listen on (UDP and TCP); port 0 picks one; the address is also what others are told
	Key       []byte         // AES key of 16, 24 or 32 bytes, the same on all; others are not heard
	Probe     time.Duration  // how often one member is probed: 200 ms
	Timeout   time.Duration  // how long it may take to answer: 100 ms
	Suspicion int            // how many probes long it is suspected before it is dead: 2
	Rejoin    time.Duration  // how often peers that are no members are called: 5 s
}

// Gossip is this node among the members.
type Gossip struct{}

// Open starts gossiping, alone at first. It rings bell (non-blocking; make it of size
// one) after every change that Snapshot shows. The key is never logged.
func Open(cfg Config, log *slog.Logger, bell chan<- struct{}) (*Gossip, error) {
	return nil, errors.New("not yet")
}

// Address is what this node listens on.
func (g *Gossip) Address() netip.AddrPort { return netip.AddrPort{} }

// SetPeers says whom to talk to: all the other speakers there should be, this node
// itself does no harm. Those that are no live members are called now and then every
// Rejoin, in the background. A dead or departed member is forgotten when it is no
// longer among the peers.
func (g *Gossip) SetPeers(peers []netip.AddrPort) {}

// SetMeta tells all members, now and future, what this node has to say. Repeating the
// present meta costs nothing. Larger than MaxMeta is an error and changes nothing.
func (g *Gossip) SetMeta(meta []byte) error { return errors.New("not yet") }

// Snapshot lists all members, this one included, sorted by name.
func (g *Gossip) Snapshot() []Member { return nil }

// Leave tells the others goodbye, waits until that is spread or ctx ends, and closes.
func (g *Gossip) Leave(ctx context.Context) error { return nil }

// Close stops at once and silently: to the others this node dies.
func (g *Gossip) Close() error { return nil }
