package bgp

import (
	"bufio"
	"bytes"
	"net/netip"
	"slices"
	"testing"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

func raw(kind byte, body ...byte) message {
	return message(slices.Concat(marker, []byte{0, byte(headerLength + len(body)), kind}, body))
}

var goodOpen = raw(1, 4, 0xfc, 0x01, 0, 9, 10, 9, 0, 2, 8, 2, 6, 65, 4, 0, 0, 0xfc, 0x01)

func TestFilter(t *testing.T) {
	peer := Peer{ASN: Exact, PeerASN: 64513, LocalASN: 64512, RouterID: netip.MustParseAddr("10.9.0.1")}
	update := raw(2, 0, 0, 0, 0)
	refresh := raw(5, 0, 1, 0, 1)
	tests := []struct {
		name  string
		begin phase
		in    message
		out   message
		err   string
	}{
		{"open", waitsForOpen, goodOpen, goodOpen, ""},
		{"update before open", waitsForOpen, update, nil, "it does not begin with an OPEN"},
		{"second open", running, goodOpen, nil, "it sends a message of type 1 out of turn"},
		{"update too early", waitsForKeepalive, update, nil, "it sends a message of type 2 out of turn"},
		{"update", running, update, keepalive, ""},
		{"keepalive", running, keepalive, keepalive, ""},
		{"long keepalive", running, raw(4, 1), nil, "it sends a message of type 4 out of turn"},
		{"refresh", running, refresh, refresh, ""},
		{"refresh of a family we do not carry", running, raw(5, 0, 2, 0, 1), nil, ""},
		{"refresh of nonsense", running, raw(5, 9), nil, ""},
		{"notification", running, raw(3, 6, 4), nil, "the peer ended the session: code 6(cease) subcode 4(administrative reset)"},
		{"BFD down", running, raw(3, 6, 10), nil, "the peer ended the session: code 6(cease) subcode 10(BFD down)"},
		{"empty notification", running, raw(3), nil, "the peer ended the session: an unreadable NOTIFICATION"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := filter{peer: peer, phase: test.begin, open: opened{families: []Family{IPv4}}}
			out, err := f.pass(test.in)
			if got := errorText(err); got != test.err {
				t.Errorf("got error %q, want %q", got, test.err)
			}
			if err == nil && !bytes.Equal(out, test.out) {
				t.Errorf("got %x, want %x", out, test.out)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Whatever a peer sends, the filter does not panic, and what it lets through gobgp's
// parser can read.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(slices.Concat(goodOpen, keepalive, raw(2, 0, 0, 0, 0), raw(5, 0, 1, 0, 1))))
	f.Add([]byte(slices.Concat(goodOpen, keepalive, raw(3, 6, 2, 3, 'b', 'y', 'e'))))
	f.Add([]byte(raw(1, 4, 0xfc, 1, 0, 9, 10, 9, 0, 2, 255, 2, 255)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), longest)
		filter := filter{peer: Peer{ASN: External, LocalASN: 1}}
		for {
			m, err := readMessage(r)
			if err != nil {
				return
			}
			if m, err = filter.pass(m); err != nil {
				return
			}
			if m == nil {
				continue
			}
			if _, err := wire.ParseBGPMessage(m); err != nil {
				t.Fatalf("%x passed: %v", m, err)
			}
		}
	})
}
