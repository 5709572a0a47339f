package members

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// record is what one member says of itself, as it travels.
type record struct {
	name    string
	epoch   uint64 // when the member started; a later life outranks an earlier one
	seq     uint64 // counts what it has said in this life
	leaving bool   // its last word
	meta    []byte
}

// newer says whether r replaces o.
func (r record) newer(o record) bool {
	return cmp.Or(cmp.Compare(r.epoch, o.epoch), cmp.Compare(r.seq, o.seq)) > 0
}

const (
	maxName    = 253 // a DNS name, as a node's is
	maxRecords = 4096
	// format marks our messages, and changes with what follows it.
	format = 0xF1

	flagLeaving = 1
)

var errRecord = errors.New("malformed record")

// encode writes records one after the other:
// format(1), then for each: flags(1) name length(1) name epoch(8) seq(8) meta length(2) meta.
func encode(records ...record) []byte {
	b := []byte{format}
	for _, r := range records {
		flags := byte(0)
		if r.leaving {
			flags |= flagLeaving
		}
		b = append(b, flags, byte(len(r.name)))
		b = append(b, r.name...)
		b = binary.BigEndian.AppendUint64(b, r.epoch)
		b = binary.BigEndian.AppendUint64(b, r.seq)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.meta)))
		b = append(b, r.meta...)
	}
	return b
}

// decode reads what encode wrote. It copies: the buffer belongs to the network.
func decode(b []byte) ([]record, error) {
	if len(b) == 0 || b[0] != format {
		return nil, fmt.Errorf("unknown format: %w", errRecord)
	}
	b = b[1:]
	var out []record
	for len(b) > 0 {
		if len(out) == maxRecords {
			return nil, fmt.Errorf("more than %d: %w", maxRecords, errRecord)
		}
		r, rest, err := decodeOne(b)
		if err != nil {
			return nil, err
		}
		out, b = append(out, r), rest
	}
	return out, nil
}

func decodeOne(b []byte) (r record, rest []byte, err error) {
	const head, numbers = 2, 8 + 8 + 2
	if len(b) < head {
		return r, nil, errRecord
	}
	flags, n := b[0], int(b[1])
	if b = b[head:]; flags > flagLeaving || n == 0 || n > maxName || len(b) < n+numbers {
		return r, nil, errRecord
	}
	r.leaving, r.name, b = flags&flagLeaving != 0, string(b[:n]), b[n:]
	r.epoch, r.seq = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	n, b = int(binary.BigEndian.Uint16(b[16:])), b[numbers:]
	if n > MaxMeta || n > len(b) {
		return r, nil, errRecord
	}
	r.meta = append([]byte{}, b[:n]...)
	return r, b[n:], nil
}
