package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// element is one element of one set, as the kernel has it: key, end and data
// are the raw bytes (fields padded to four), but for verdict maps, whose data is "drop" or
// "goto CHAIN".
type element struct {
	slot
	data string
}

// slot is the place of an element: what must be unique.
type slot struct {
	family family
	set    setID
	bound  bool   // the exclusive end of an interval
	key    string // raw
	end    string // raw, the inclusive end of a concatenated interval
}

func rawToken(t uint32) string {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], t)
	return string(b[:])
}

func native(s string) uint32 { return binary.NativeEndian.Uint32([]byte(s)) }

// frontKey is what makes a frontend unique: of several Services that want the
// same one only one gets it.
type frontKey struct {
	addr  netip.Addr
	proto Proto
	port  uint16
}

func (f Frontend) key() frontKey { return frontKey{f.Addr.Unmap(), f.Proto, f.Port} }

func (k frontKey) family() family { return familyOf(k.addr) }

func (k frontKey) isNodePort() bool { return k.addr.IsUnspecified() }

func (k frontKey) String() string {
	if k.isNodePort() {
		return fmt.Sprintf("nodeport %s %s %d", k.family(), k.proto, k.port)
	}
	return fmt.Sprintf("%s %s %d", k.addr, k.proto, k.port)
}

// raw is the key of the frontend's elements.
func (k frontKey) raw() string {
	b := make([]byte, 0, 24)
	if !k.isNodePort() {
		b = appendAddr(b, k.addr)
	}
	b = append(b, byte(k.proto), 0, 0, 0)
	b = append(b, byte(k.port>>8), byte(k.port), 0, 0)
	return string(b)
}

func rawAddr(a netip.Addr) string { return string(appendAddr(make([]byte, 0, 16), a)) }

func rawBackend(a netip.AddrPort) string {
	b := appendAddr(make([]byte, 0, 20), a.Addr())
	return string(append(b, byte(a.Port()>>8), byte(a.Port()), 0, 0))
}

func rawSlot(target uint32, slot int) string {
	b := make([]byte, 0, 8)
	b = binary.NativeEndian.AppendUint32(b, target<<classBits)
	return string(binary.NativeEndian.AppendUint32(b, uint32(slot)))
}

// backendOf is the inverse of rawBackend.
func (f family) backendOf(raw string) netip.AddrPort {
	n := f.addrLen()
	return netip.AddrPortFrom(f.addr(raw), binary.BigEndian.Uint16([]byte(raw[n:n+2])))
}

// frontOf is the inverse of frontKey.raw.
func (f family) frontOf(set setID, raw string) frontKey {
	k := frontKey{addr: f.unspecified()}
	if set == frontends || set == shortCircuits || set == allowedSources {
		k.addr = f.addr(raw)
		raw = raw[f.addrLen():]
	}
	k.proto = Proto(raw[0])
	k.port = binary.BigEndian.Uint16([]byte(raw[4:6]))
	return k
}

func (f family) unspecified() netip.Addr {
	if f == v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// String is the element as nft would list it, with tokens as "target:class".
func (e element) String() string {
	s := fmt.Sprintf("%s %s %s", e.family, e.set, e.keyString())
	if e.data == "" {
		return s
	}
	return s + " : " + e.dataString()
}

func tokenString(raw string) string {
	t := native(raw)
	return fmt.Sprintf("%d:%d", t>>classBits, t&classMask)
}

func (s slot) keyString() string {
	switch s.set {
	case frontends, shortCircuits:
		k := s.family.frontOf(s.set, s.key)
		return fmt.Sprintf("%s . %s . %d", k.addr, k.proto, k.port)
	case nodeports, shortCircuitsPorts:
		k := s.family.frontOf(s.set, s.key)
		return fmt.Sprintf("%s . %d", k.proto, k.port)
	case classes, plainClasses, remembers:
		return strconv.FormatUint(uint64(native(s.key)), 10)
	case endpoints:
		return fmt.Sprintf("%d . %d", native(s.key)>>classBits, native(s.key[4:]))
	case affinity:
		n := s.family.addrLen()
		return fmt.Sprintf("%s . %d", s.family.addr(s.key), native(s.key[n:])>>classBits)
	case hairpin:
		a := s.family.addr(s.key).String()
		return a + " . " + a
	case allowedSources:
		return s.sourceString()
	case nodeportIPs, serviceIPs, serviceCIDRs, echoIPs, relays, rings, podCIDRs, unmasqueraded, setCount:
	}
	a := s.family.addr(s.key).String()
	if s.bound {
		return "before " + a
	}
	if s.set.isInterval() {
		return "from " + a
	}
	return a
}

// guarded is the frontend whose source ranges a slot is among; the zero slot if it is none of them.
func (s slot) guarded() slot {
	if s.set != allowedSources {
		return slot{}
	}
	return slot{family: s.family, set: frontends, key: s.key[:len(s.key)-int(s.family.addrLen())]}
}

// overlaps tells whether two slots are source ranges of one frontend that share an address.
func (s slot) overlaps(o slot) bool {
	return s.set == allowedSources && s.guarded() == o.guarded() && s.key <= o.end && o.key <= s.end
}

func (s slot) sourceString() string {
	k := s.family.frontOf(s.set, s.key)
	at := len(s.key) - int(s.family.addrLen())
	return fmt.Sprintf("%s . %s . %d . %s-%s", k.addr, k.proto, k.port,
		s.family.addr(s.key[at:]), s.family.addr(s.end[at:]))
}

func (e element) dataString() string {
	switch e.set {
	case frontends, shortCircuits, nodeports, shortCircuitsPorts:
		return tokenString(e.data)
	case endpoints, affinity:
		b := e.family.backendOf(e.data)
		return fmt.Sprintf("%s . %d", b.Addr(), b.Port())
	case relays, rings:
		return e.family.addr(e.data).String()
	default:
		return strings.TrimSpace(e.data)
	}
}

// String is the protocol's name as nft writes it.
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}
