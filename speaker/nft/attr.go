package nft

import (
	"encoding/binary"
	"errors"
	"iter"

	"golang.org/x/sys/unix"
)

const (
	headerLen   = 16 // struct nlmsghdr
	genmsgLen   = 4  // struct nfgenmsg
	attrLen     = 4  // struct nlattr
	maxAttr     = 0xffff
	nested      = unix.NLA_F_NESTED
	attrTypeMax = 0x3fff
)

// errAttrTooLong guards the trap of a 16 bit length that wraps silently.
var errAttrTooLong = errors.New("netlink attribute over 64 KiB")

// buffer writes netlink messages one behind the other. The first error sticks.
type buffer struct {
	b   []byte
	err error
}

// message opens a message and returns where it starts, for close.
func (b *buffer) message(typ, flags uint16, family uint8, res uint16) int {
	start := len(b.b)
	b.b = append(b.b, make([]byte, headerLen)...)
	binary.NativeEndian.PutUint16(b.b[start+4:], typ)
	binary.NativeEndian.PutUint16(b.b[start+6:], flags)
	b.b = append(b.b, family, 0, byte(res>>8), byte(res))
	return start
}

// done closes the message that started there and numbers it.
func (b *buffer) done(start int, seq uint32) {
	binary.NativeEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
	binary.NativeEndian.PutUint32(b.b[start+8:], seq)
}

// nest opens a nested attribute and returns where it starts, for end.
func (b *buffer) nest(typ uint16) int {
	start := len(b.b)
	b.b = append(b.b, 0, 0, 0, 0)
	binary.NativeEndian.PutUint16(b.b[start+2:], typ|nested)
	return start
}

// end closes the nested attribute that started there.
func (b *buffer) end(start int) {
	size := len(b.b) - start
	if size > maxAttr {
		b.err = errAttrTooLong
		return
	}
	binary.NativeEndian.PutUint16(b.b[start:], uint16(size))
}

func (b *buffer) head(typ uint16, size int) {
	if size+attrLen > maxAttr {
		b.err = errAttrTooLong
		return
	}
	b.b = binary.NativeEndian.AppendUint16(b.b, uint16(size+attrLen))
	b.b = binary.NativeEndian.AppendUint16(b.b, typ)
}

func (b *buffer) pad() {
	for len(b.b)%4 != 0 {
		b.b = append(b.b, 0)
	}
}

func (b *buffer) bytes(typ uint16, data []byte) {
	b.head(typ, len(data))
	b.b = append(b.b, data...)
	b.pad()
}

// raw writes a string's bytes without a terminating zero.
func (b *buffer) raw(typ uint16, data string) {
	b.head(typ, len(data))
	b.b = append(b.b, data...)
	b.pad()
}

// str writes a string with its terminating zero.
func (b *buffer) str(typ uint16, s string) {
	b.head(typ, len(s)+1)
	b.b = append(b.b, s...)
	b.b = append(b.b, 0)
	b.pad()
}

func (b *buffer) u32(typ uint16, v uint32) {
	b.head(typ, 4)
	b.b = binary.BigEndian.AppendUint32(b.b, v)
}

func (b *buffer) u64(typ uint16, v uint64) {
	b.head(typ, 8)
	b.b = binary.BigEndian.AppendUint64(b.b, v)
}

// attributes walks over the attributes in b and stops where they make no sense.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attrLen {
			size := int(binary.NativeEndian.Uint16(b))
			if size < attrLen || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attrTypeMax, b[attrLen:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// attribute returns the first attribute of that type, or nil.
func attribute(b []byte, want uint16) []byte {
	for typ, data := range attributes(b) {
		if typ == want {
			return data
		}
	}
	return nil
}

// text is the string in an attribute, without its terminating zero.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// number is the big-endian number in an attribute, 0 if it is missing.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
