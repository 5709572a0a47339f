package bfd

import (
	"encoding/binary"
	"fmt"
	"time"
)

// State of a session (RFC 5880 §4.1).
type State uint8

// The states in their order on the wire.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the RFC's name of the state.
func (s State) String() string {
	if int(s) >= 4 {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return [...]string{"AdminDown", "Down", "Init", "Up"}[s]
}

// Diag is why a session last left Up (RFC 5880 §4.1).
type Diag uint8

// The diagnostics this room gives.
const (
	NoDiagnostic          Diag = 0
	DetectionTimeExpired  Diag = 1
	EchoFailed            Diag = 2
	NeighborSignaledDown  Diag = 3
	AdministrativelyDown  Diag = 7
	highestKnownDiag           = 8
	packetLength               = 24
	version                    = 1
	longestInterval            = time.Duration(1<<32-1) * time.Microsecond
	flagPoll              byte = 0x20
	flagFinal             byte = 0x10
	flagControlPlaneIndep byte = 0x08
	flagAuth              byte = 0x04
	flagDemand            byte = 0x02
	flagMultipoint        byte = 0x01
)

// String returns the RFC's words for the diagnostic.
func (d Diag) String() string {
	if d > highestKnownDiag {
		return fmt.Sprintf("diagnostic %d", uint8(d))
	}
	return [...]string{
		"no diagnostic", "control detection time expired", "echo function failed",
		"neighbor signaled session down", "forwarding plane reset", "path down",
		"concatenated path down", "administratively down", "reverse concatenated path down",
	}[d]
}

// Packet is a BFD control packet without authentication (RFC 5880 §4.1). Intervals
// are whole microseconds up to 2³²-1.
type Packet struct {
	Diag              Diag
	State             State
	Poll, Final       bool
	ControlPlaneIndep bool
	Demand            bool
	Multiplier        uint8
	MyDiscriminator   uint32
	YourDiscriminator uint32
	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration
	RequiredMinEchoRx time.Duration
}

// Marshal returns the 24 bytes of the packet. Intervals out of range are clamped.
func (p Packet) Marshal() []byte {
	b := make([]byte, packetLength)
	b[0] = version<<5 | byte(p.Diag)&0x1f
	b[1] = byte(p.State) << 6
	for flag, set := range map[byte]bool{
		flagPoll: p.Poll, flagFinal: p.Final, flagControlPlaneIndep: p.ControlPlaneIndep, flagDemand: p.Demand,
	} {
		if set {
			b[1] |= flag
		}
	}
	b[2], b[3] = p.Multiplier, packetLength
	binary.BigEndian.PutUint32(b[4:], p.MyDiscriminator)
	binary.BigEndian.PutUint32(b[8:], p.YourDiscriminator)
	for i, d := range []time.Duration{p.DesiredMinTx, p.RequiredMinRx, p.RequiredMinEchoRx} {
		us := min(max(d, 0), longestInterval) / time.Microsecond
		binary.BigEndian.PutUint32(b[12+4*i:], uint32(us))
	}
	return b
}

// Unmarshal reads a control packet and makes the checks of RFC 5880 §6.8.6 that need
// no session. Bytes after the packet's length field are ignored, as the RFC says.
func Unmarshal(b []byte) (Packet, error) {
	if len(b) < packetLength {
		return Packet{}, fmt.Errorf("read BFD packet: %d bytes, want at least %d", len(b), packetLength)
	}
	p := Packet{
		Diag: Diag(b[0] & 0x1f), State: State(b[1] >> 6),
		Poll: b[1]&flagPoll != 0, Final: b[1]&flagFinal != 0,
		ControlPlaneIndep: b[1]&flagControlPlaneIndep != 0, Demand: b[1]&flagDemand != 0,
		Multiplier:        b[2],
		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      microseconds(b[12:]),
		RequiredMinRx:     microseconds(b[16:]),
		RequiredMinEchoRx: microseconds(b[20:]),
	}
	if why := refuse(b, p); why != "" {
		return Packet{}, fmt.Errorf("read BFD packet: %s", why)
	}
	return p, nil
}

func refuse(b []byte, p Packet) string {
	length := int(b[3])
	switch {
	case b[0]>>5 != version:
		return fmt.Sprintf("version %d, want %d", b[0]>>5, version)
	case b[1]&flagAuth != 0:
		return "authenticated, and no authentication is configured"
	case length < packetLength || length > len(b):
		return fmt.Sprintf("length field %d of %d bytes", length, len(b))
	case p.Multiplier == 0:
		return "detect multiplier 0"
	case b[1]&flagMultipoint != 0:
		return "multipoint"
	case p.MyDiscriminator == 0:
		return "my discriminator 0"
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return fmt.Sprintf("your discriminator 0 in state %s", p.State)
	case p.Poll && p.Final:
		return "poll and final at once"
	}
	return ""
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}
