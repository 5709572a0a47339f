package bgp

import (
	"encoding/binary"
	"fmt"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// phase is how far a connection has come.
type phase int

const (
	waitsForOpen phase = iota
	waitsForKeepalive
	running
)

// filter decides about each message of a peer, in order: it is the only way in.
type filter struct {
	peer  Peer
	phase phase
	open  opened
	// ignored counts UPDATEs that were thrown away.
	ignored uint64
}

// keepalive takes an UPDATE's place: gobgp restarts its hold timer, and that is all an
// UPDATE may do to us.
var keepalive = append(append(message{}, marker...), 0, headerLength, wire.BGP_MSG_KEEPALIVE)

// pass returns the message to hand to gobgp, nil for none, or what is wrong with it.
func (f *filter) pass(m message) (message, error) {
	switch kind := m.kind(); {
	case kind == wire.BGP_MSG_NOTIFICATION:
		return nil, fmt.Errorf("the peer ended the session: %s", describe(m))
	case f.phase == waitsForOpen:
		return m, f.opens(m)
	case kind == wire.BGP_MSG_KEEPALIVE && len(m) == headerLength:
		f.phase = running
		return m, nil
	case f.phase == running && kind == wire.BGP_MSG_UPDATE:
		f.ignored++
		return keepalive, nil
	case f.phase == running && kind == wire.BGP_MSG_ROUTE_REFRESH:
		return f.refresh(m), nil
	}
	return nil, object(wire.BGP_ERROR_FSM_ERROR, 0, nil, fmt.Sprintf("it sends a message of type %d out of turn", m.kind()))
}

// refresh lets the requests of RFC 2918 through, for a family the session carries.
func (f *filter) refresh(m message) message {
	if len(m) != headerLength+4 || m[21] != 0 || m[22] != wire.SAFI_UNICAST {
		return nil
	}
	for _, family := range f.open.families {
		afi := binary.BigEndian.Uint16(m[19:])
		if (family == IPv4 && afi == wire.AFI_IP) || (family == IPv6 && afi == wire.AFI_IP6) {
			return m
		}
	}
	return nil
}

// opens checks the peer's OPEN: who it is.
func (f *filter) opens(m message) error {
	if m.kind() != wire.BGP_MSG_OPEN {
		return object(wire.BGP_ERROR_FSM_ERROR, 0, nil, "it does not begin with an OPEN")
	}
	open, err := readOpen(m)
	if err != nil {
		return err
	}
	f.open, f.phase = open, waitsForKeepalive
	if why := f.peer.refuses(open.asn); why != "" {
		return object(wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_BAD_PEER_AS, nil, why)
	}
	if open.routerID == f.peer.RouterID && open.asn == f.peer.LocalASN {
		return object(wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER, nil,
			fmt.Sprintf("it has our own router ID %s", open.routerID))
	}
	return nil
}

// refuses says why a peer in that AS is not the one we want; empty if it is.
func (p Peer) refuses(asn uint32) string {
	switch {
	case p.ASN == Exact && asn != p.PeerASN:
		return fmt.Sprintf("it is in AS %d, not in AS %d", asn, p.PeerASN)
	case p.ASN == Internal && asn != p.LocalASN:
		return fmt.Sprintf("it is in AS %d, not in ours, AS %d", asn, p.LocalASN)
	case p.ASN == External && asn == p.LocalASN:
		return fmt.Sprintf("it is in our own AS %d, not in another one", asn)
	}
	return ""
}
