package members

import (
	"encoding/binary"
)

// Bounds on what is believed of the network.
const (
	mostNotes = 10_000
	mostName  = 253 // of a Kubernetes node
	noteHead  = 8 + 1 + 2
)

// note is what one member says of itself, with a version: of two the higher counts.
type note struct {
	name    string
	version uint64
	left    bool // goodbye: memberlist does not tell us whether a member left or died
	meta    []byte
}

// append writes the note behind others: length of the name (1 byte), name,
// version (8), goodbye (1), length of the meta (2), meta; numbers big endian.
func (n note) append(to []byte) []byte {
	to = append(to, byte(len(n.name)))
	to = append(to, n.name...)
	to = binary.BigEndian.AppendUint64(to, n.version)
	left := byte(0)
	if n.left {
		left = 1
	}
	to = append(to, left)
	to = binary.BigEndian.AppendUint16(to, uint16(len(n.meta)))
	return append(to, n.meta...)
}

// parseNotes reads notes up to the first that is cut short or too large.
func parseNotes(from []byte) []note {
	var all []note
	for len(from) > 0 && len(all) < mostNotes {
		size := int(from[0])
		if size == 0 || size > mostName || len(from) < 1+size+noteHead {
			break
		}
		n := note{name: string(from[1 : 1+size])}
		from = from[1+size:]
		n.version = binary.BigEndian.Uint64(from)
		n.left = from[8] == 1
		length := int(binary.BigEndian.Uint16(from[9:]))
		if from[8] > 1 || length > MaxMeta || len(from) < noteHead+length {
			break
		}
		n.meta = append([]byte(nil), from[noteHead:noteHead+length]...)
		from = from[noteHead+length:]
		all = append(all, n)
	}
	return all
}
