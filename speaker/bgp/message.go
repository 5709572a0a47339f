package bgp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

const (
	headerLength = 19
	longest      = 4096 // RFC 4271 §4.1
)

// message is one BGP message with its header.
type message []byte

func (m message) kind() uint8 { return m[18] }

// readMessage reads the next message. A header that is wrong is an *objection that the
// peer has to be told; anything else is the connection's error.
func readMessage(r *bufio.Reader) (message, error) {
	header, err := r.Peek(headerLength)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(header[16:]))
	switch {
	case !bytes.Equal(header[:16], marker):
		return nil, object(wire.BGP_ERROR_MESSAGE_HEADER_ERROR, wire.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED,
			nil, "it sends something that is not BGP")
	case length < headerLength || length > longest:
		return nil, object(wire.BGP_ERROR_MESSAGE_HEADER_ERROR, wire.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH,
			header[16:18], fmt.Sprintf("it sends a message of %d bytes", length))
	}
	m := make(message, length)
	_, err = io.ReadFull(r, m)
	return m, err
}

var marker = bytes.Repeat([]byte{0xff}, 16)

// objection is what we have against a message: a NOTIFICATION and the words for people.
type objection struct {
	code, subcode uint8
	data          []byte
	why           string
}

func object(code, subcode uint8, data []byte, why string) *objection {
	return &objection{code, subcode, slices.Clone(data), why}
}

// Error returns the words for people.
func (o *objection) Error() string { return o.why }

// notification is the message that tells the peer.
func (o *objection) notification() message {
	m := slices.Concat(marker, []byte{0, 0, wire.BGP_MSG_NOTIFICATION, o.code, o.subcode}, o.data)
	binary.BigEndian.PutUint16(m[16:], uint16(len(m)))
	return m
}

// cease is the NOTIFICATION that ends a session; the peer's log shows text if the
// subcode is an administrative one (RFC 9003).
func cease(subcode uint8, text string) *objection {
	o := object(wire.BGP_ERROR_CEASE, subcode, nil, text)
	if subcode == wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN || subcode == wire.BGP_ERROR_SUB_ADMINISTRATIVE_RESET {
		short := text[:min(len(text), 255)]
		o.data = append([]byte{byte(len(short))}, short...)
	}
	return o
}

// subBFDDown is Cease subcode 10 (RFC 9384), which gobgp does not name.
const subBFDDown = 10

// describe puts a NOTIFICATION into words, with the text an administrator sent along.
func describe(m message) string {
	if len(m) < headerLength+2 {
		return "an unreadable NOTIFICATION"
	}
	code, subcode, data := m[19], m[20], m[21:]
	words := wire.NewNotificationErrorCode(code, subcode).String()
	if code == wire.BGP_ERROR_CEASE && subcode == subBFDDown {
		words = "code 6(cease) subcode 10(BFD down)"
	}
	if code == wire.BGP_ERROR_CEASE && len(data) > 1 && int(data[0]) < len(data) {
		if text := data[1 : 1+int(data[0])]; utf8.Valid(text) {
			words += fmt.Sprintf(": %q", text)
		}
	}
	return words
}

// opened is what an OPEN message says.
type opened struct {
	asn      uint32
	routerID netip.Addr
	hold     time.Duration
	families []Family
	restart  bool
}

// readOpen reads an OPEN. gobgp's parser may panic on hostile input; here that is
// caught, and what passed here once passes in gobgp too.
func readOpen(m message) (o opened, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = object(wire.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, "it sends a malformed OPEN")
		}
	}()
	parsed, err := wire.ParseBGPMessage(m)
	if err != nil {
		return o, object(wire.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, "it sends a malformed OPEN: "+err.Error())
	}
	body := parsed.Body.(*wire.BGPOpen)
	o.asn, o.hold = uint32(body.MyAS), time.Duration(body.HoldTime)*time.Second
	o.routerID, _ = netip.AddrFromSlice(body.ID.To4())
	multiprotocol := false
	for _, capability := range capabilities(body) {
		switch c := capability.(type) {
		case *wire.CapFourOctetASNumber:
			o.asn = c.CapValue
		case *wire.CapGracefulRestart:
			o.restart = true
		case *wire.CapMultiProtocol:
			multiprotocol = true
			o.families = appendFamily(o.families, c.CapValue)
		}
	}
	if !multiprotocol { // RFC 4760 §8: a speaker without it means IPv4 unicast
		o.families = []Family{IPv4}
	}
	return o, nil
}

func appendFamily(families []Family, rf wire.RouteFamily) []Family {
	switch rf {
	case wire.RF_IPv4_UC:
		return append(families, IPv4)
	case wire.RF_IPv6_UC:
		return append(families, IPv6)
	default:
		return families
	}
}

func capabilities(open *wire.BGPOpen) (all []wire.ParameterCapabilityInterface) {
	for _, parameter := range open.OptParams {
		if c, ok := parameter.(*wire.OptionParameterCapability); ok {
			all = append(all, c.Capability...)
		}
	}
	return all
}

// preserving returns our OPEN with the bits of RFC 4724 that gobgp sets only together
// with holding routes back: the forwarding state was kept (the nftables tables outlive
// the speaker), so the peer must not drop our old routes; and whether we restarted.
func preserving(m message, restarted bool) (message, error) {
	parsed, err := wire.ParseBGPMessage(m)
	if err != nil {
		return nil, fmt.Errorf("read our own OPEN: %w", err)
	}
	for _, c := range capabilities(parsed.Body.(*wire.BGPOpen)) {
		graceful, ok := c.(*wire.CapGracefulRestart)
		if !ok {
			continue
		}
		if restarted {
			graceful.Flags |= 0x08
		}
		for _, tuple := range graceful.Tuples {
			tuple.Flags |= 0x80
		}
	}
	parsed.Header.Len = 0
	return parsed.Serialize()
}
