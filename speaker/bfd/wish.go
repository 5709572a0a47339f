// Package bfd watches the paths to routers with Bidirectional Forwarding Detection:
// asynchronous mode over one hop (RFC 5880, RFC 5881) and over several (RFC 5883), for
// IPv4 and IPv6.
//
// A path that stops carrying packets is noticed within a fraction of a second, where
// BGP's hold time takes many. The protocol is a pure function (machine.go) of a
// session's state, an event and the time; everything else moves packets and timers.
//
// A path is best watched while its BGP session is established, from a second after that
// on, and only then: FRR replaces its own BFD session when BGP comes up, and drops BGP if
// the old one was up.
//
// The room may touch UDP sockets on ports 3784 and 4784 and the clock. What follows
// from a path that is down is out of scope: the caller reads the report when the bell
// rings. Authentication and demand mode are not implemented: peers are told so and do without.
package bfd

import (
	"fmt"
	"net/netip"
	"time"
)

// Session is one path to watch. It is comparable: a session is started anew only if its
// addresses or interface change; a changed Profile is negotiated while it runs.
type Session struct {
	// Peer is the router's address, with a zone if it is link-local.
	Peer netip.Addr
	// Local is our address; invalid lets the kernel choose. Required for Multihop.
	Local netip.Addr
	// Interface to bind to (the link, or a VRF device); empty for none.
	Interface string
	// Multihop uses port 4784 and accepts packets that crossed routers (RFC 5883).
	// FRR and BIRD watch internal BGP peers this way by default.
	Multihop bool
	Profile  Profile
	// AdminDown tells the peer that the path is switched off, not broken.
	AdminDown bool
}

// Profile is how a path is watched. Zero values stand for the defaults.
type Profile struct {
	// Receive is the shortest interval we want packets at; default 300 ms.
	Receive time.Duration
	// Transmit is the interval we want to send at; default 300 ms.
	Transmit time.Duration
	// Multiplier is how many of our packets in a row may be lost; default 3.
	Multiplier uint8
	// Passive waits for the peer to begin.
	Passive bool
	// MinimumTTL of packets on a Multihop path; default 254.
	MinimumTTL uint8
	// Echo is the shortest interval at which the peer may send echo packets, which the kernel sends back to it: they are
	// addressed to the peer itself (RFC 5881 §4). Default 50 ms. The peer is told 0, none, on
	// a Multihop path and where this node does not forward packets.
	Echo time.Duration
	// EchoMode sends echo packets ourselves where the peer takes them, at Echo or the peer's interval if that is longer, and
	// takes the path for broken if Multiplier of them in a row do not come back. Not on a Multihop path.
	EchoMode bool

	// NoLoop tells the peer to send no echo packets, which would not come back. The room sets it.
	NoLoop bool
}

// The limits of a profile's intervals. Below Shortest, a garbage collection or a busy
// node would be taken for a broken path.
const (
	Shortest        = 50 * time.Millisecond
	defaultInterval = 300 * time.Millisecond
	defaultEcho     = 50 * time.Millisecond
)

// Filled returns the profile with the defaults in place of zeros.
func (p Profile) Filled() Profile {
	if p.Receive == 0 {
		p.Receive = defaultInterval
	}
	if p.Transmit == 0 {
		p.Transmit = defaultInterval
	}
	if p.Multiplier == 0 {
		p.Multiplier = 3
	}
	if p.Echo == 0 {
		p.Echo = defaultEcho
	}
	if p.MinimumTTL == 0 {
		p.MinimumTTL = 254
	}
	return p
}

// Problem says what is wrong with the profile, for people; empty if nothing is.
func (p Profile) Problem() string {
	p = p.Filled()
	for _, d := range []time.Duration{p.Receive, p.Transmit} {
		if d < Shortest || d > time.Minute {
			return fmt.Sprintf("interval %s is not between %s and 1m", d, Shortest)
		}
	}
	if p.Multiplier < 2 {
		return fmt.Sprintf("detect multiplier %d is below 2: one lost packet would be a failure", p.Multiplier)
	}
	return ""
}

// Report is one session as it is now.
type Report struct {
	Session Session
	State   State
	// Since is when State was entered.
	Since time.Time
	// Diag is why we last went down, RemoteDiag why the peer says it did.
	Diag, RemoteDiag Diag
	// RemoteState is the peer's state as last heard.
	RemoteState State
	// Problem is why the session cannot run at all (no socket, bad profile).
	Problem string
	// Why says in one sentence what led to State.
	Why string
	// Refusal is why the last refused packet was refused.
	Refusal string
	// LastDown says what led out of Up the last time; empty for never.
	LastDown string
	// Transmit and Detection are the negotiated intervals.
	Transmit, Detection time.Duration
	// Counters since the session began.
	Sent, Received, Refused, Ups, Downs uint64
	// Breaks counts how often nothing came, or no echo came back: the path may be Up again by the time that is looked at.
	Breaks uint64
}

// Broken says whether the path does not work: one side has stopped hearing the other, or
// says that its path is down. A peer that switches the session off or starts it anew (FRR
// does when BGP comes and goes) does not make the path broken (RFC 5882 §3.2).
func (r Report) Broken() bool {
	if r.State == Up || r.State == AdminDown {
		return false
	}
	if r.Diag == NeighborSignaledDown && r.RemoteState != AdminDown {
		return r.RemoteDiag != NoDiagnostic && r.RemoteDiag != NeighborSignaledDown && r.RemoteDiag != AdministrativelyDown
	}
	return r.Diag == DetectionTimeExpired || r.Diag == EchoFailed
}

// Reason says in one sentence why the path is not Up; empty if it is.
func (r Report) Reason() string {
	switch {
	case r.Problem != "":
		return r.Problem
	case r.State == Up:
		return ""
	case r.Downs > 0 && r.Diag != NoDiagnostic:
		return fmt.Sprintf("BFD %s: %s", r.State, r.Diag)
	case r.Received == 0 && r.Refusal != "":
		return fmt.Sprintf("BFD %s: packets refused: %s", r.State, r.Refusal)
	case r.Received == 0:
		return fmt.Sprintf("BFD %s: nothing heard from %s", r.State, r.Session.Peer)
	}
	return fmt.Sprintf("BFD %s: the peer says %s", r.State, r.RemoteState)
}
