package l2

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
)

// mac is an Ethernet address that can be compared.
type mac [6]byte

var (
	broadcast = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = mac{0x33, 0x33, 0, 0, 0, 1}
)

func (m mac) hardware() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// host says whether m can be the address of one station.
func (m mac) host() bool { return m[0]&1 == 0 && m != mac{} }

// heard is what one valid frame says, in either family.
type heard struct {
	to   mac        // the frame's destination
	from mac        // the station that speaks, and that an answer goes to
	peer netip.Addr // its address; unspecified in a probe (RFC 5227, RFC 4862)

	asks   netip.Addr // the address it wants to know the station of, if any
	claims netip.Addr // the address it says is its own, if any
}

// protocol is ARP or NDP.
type protocol interface {
	etherType() int
	// filter passes frames that ask for or claim one of the addresses, and those so
	// malformed that they should be counted; nothing that is for another station.
	filter(addrs []netip.Addr) []bpf.Instruction
	// parse understands one frame or says what is wrong with it.
	parse(frame []byte) (heard, error)
	// answer tells who asked in h that own is the station of the address.
	answer(h heard, own mac) ([]byte, error)
	// announce tells everybody, so that entries of another station are replaced.
	announce(addr netip.Addr, own mac) ([][]byte, error)
	// probe asks everybody without claiming anything.
	probe(addr netip.Addr, own mac) ([]byte, error)
}

func protocolOf(addr netip.Addr) protocol {
	if addr.Is4() {
		return arpProtocol{}
	}
	return ndpProtocol{}
}

const etherLen = 14

var (
	errFrameShort = errors.New("frame too short")
	errSender     = errors.New("sender is no station")
)

// etherFrame puts the Ethernet header before a payload.
func etherFrame(to, from mac, etherType int, payload []byte) []byte {
	b := make([]byte, 0, etherLen+len(payload))
	b = append(b, to[:]...)
	b = append(b, from[:]...)
	b = append(b, byte(etherType>>8), byte(etherType))
	return append(b, payload...)
}

// etherHeader splits a frame; its length has been checked.
func etherHeader(frame []byte) (to, from mac, payload []byte) {
	return mac(frame[0:6]), mac(frame[6:12]), frame[etherLen:]
}
