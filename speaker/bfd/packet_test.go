package bfd

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMarshal(t *testing.T) {
	p := Packet{
		Diag: DetectionTimeExpired, State: Up, Poll: true, Multiplier: 3,
		MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
		DesiredMinTx: 300 * time.Millisecond, RequiredMinRx: time.Second, RequiredMinEchoRx: 50 * time.Millisecond,
	}
	want := []byte{
		0x21, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8,
		0x00, 0x04, 0x93, 0xe0, 0x00, 0x0f, 0x42, 0x40, 0x00, 0x00, 0xc3, 0x50,
	}
	if diff := cmp.Diff(want, p.Marshal()); diff != "" {
		t.Error("(-want +got)", diff)
	}
	got, err := Unmarshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Error("(-want +got)", diff)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	good := Packet{State: Up, Multiplier: 3, MyDiscriminator: 1, YourDiscriminator: 2}.Marshal()
	tests := map[string]func([]byte) []byte{
		"read BFD packet: 23 bytes, want at least 24":                         func(b []byte) []byte { return b[:23] },
		"read BFD packet: version 2, want 1":                                  func(b []byte) []byte { b[0] = 2 << 5; return b },
		"read BFD packet: authenticated, and no authentication is configured": func(b []byte) []byte { b[1] |= flagAuth; return b },
		"read BFD packet: length field 25 of 24 bytes":                        func(b []byte) []byte { b[3] = 25; return b },
		"read BFD packet: length field 23 of 24 bytes":                        func(b []byte) []byte { b[3] = 23; return b },
		"read BFD packet: detect multiplier 0":                                func(b []byte) []byte { b[2] = 0; return b },
		"read BFD packet: multipoint":                                         func(b []byte) []byte { b[1] |= flagMultipoint; return b },
		"read BFD packet: my discriminator 0":                                 func(b []byte) []byte { b[7] = 0; return b },
		"read BFD packet: your discriminator 0 in state Up":                   func(b []byte) []byte { b[11] = 0; return b },
		"read BFD packet: poll and final at once":                             func(b []byte) []byte { b[1] |= flagPoll | flagFinal; return b },
	}
	for want, change := range tests {
		if _, err := Unmarshal(change(bytes.Clone(good))); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(Packet{State: Up, Multiplier: 3, MyDiscriminator: 1, YourDiscriminator: 2}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Unmarshal(b)
		if err != nil {
			return
		}
		again, err := Unmarshal(p.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Error("(-want +got)", diff)
		}
	})
}

func FuzzStep(f *testing.F) {
	f.Add(Packet{State: Init, Multiplier: 3, MyDiscriminator: 1, YourDiscriminator: 2}.Marshal(), uint16(10))
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		m, now := NewMachine(42, Profile{}, epoch), epoch
		for len(b) >= packetLength {
			p, err := Unmarshal(b[:packetLength])
			b = b[packetLength:]
			now = now.Add(time.Duration(step) * time.Millisecond)
			if err == nil {
				m, _ = Step(m, Event{Now: now, Received: true, Packet: p})
			}
			m, _ = Step(m, Event{Now: now})
			if m.sends() && m.SendAt.IsZero() {
				t.Fatalf("silent for ever: %+v", m)
			}
		}
	})
}
