package bgp

import (
	"net/netip"
	"time"
)

// State of a session, in RFC 4271's words, and Blocked for a session that is not even
// tried.
type State string

// The states a session goes through. Idle: nothing can be tried yet (an unnumbered
// peer has not been heard of). Connect: TCP is being tried.
const (
	Blocked     State = "Blocked"
	Idle        State = "Idle"
	Connect     State = "Connect"
	OpenSent    State = "OpenSent"
	OpenConfirm State = "OpenConfirm"
	Established State = "Established"
)

// Report is what was reached, sorted by Key.
type Report struct {
	Peers []PeerReport
}

// PeerReport is one session as it is now.
type PeerReport struct {
	Key string
	// Address of the peer; of an unnumbered one as found, invalid until then.
	Address netip.Addr
	// Local is our end's address; invalid unless connected.
	Local netip.Addr
	// ASN and RouterID as the peer last told us; before that PeerASN as wished.
	ASN      uint32
	RouterID netip.Addr
	State    State
	// Since is when State was entered.
	Since time.Time
	// Reason says in one sentence why the state is what it is; empty if Established.
	Reason string
	// LastError is the last reason a session or an attempt ended, with the
	// NOTIFICATION's text if there was one; kept when the session is back.
	LastError   string
	LastErrorAt time.Time
	// Deaf says why the peer cannot connect to us although it may; empty if it can, or need not.
	Deaf string
	// Families and timers as negotiated; zero unless Established.
	Families        []Family
	HoldTime        time.Duration
	Keepalive       time.Duration
	GracefulRestart bool
	// Prefixes is how many the peer knows from us now; 0 unless Established.
	Prefixes int
	// Waiting tells that the peer is told no route until BFD watches the path, see Peer.PathWait.
	Waiting bool
	// Counters since the session was first wished.
	Updates, Established, Ignored uint64
}

// settling is how long a session is left alone by BFD.
const settling = time.Second

// Settled says whether the session has been up long enough for BFD to watch its path. FRR
// replaces its BFD session when BGP comes up; one of ours that met the old one would see
// it die, and end the BGP session for nothing. The bell rings when this becomes true.
func (p PeerReport) Settled(now time.Time) bool {
	return p.State == Established && now.Sub(p.Since) >= settling
}
