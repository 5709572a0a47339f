package nft

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: 1 to 4 are 16 bytes wide and made of four each of 8 to 23.
const (
	reg1 = 1
	reg2 = 2
	word = 8 // the first of the four byte registers, the same as the start of reg1
)

const (
	ctStateInvalid = 1
	ctStateNew     = 8
	ctStatusDNAT   = 0x20
	protoOffset    = 2 // of the destination port, in all three protocols
)

// after is the register behind an address in register 1.
func (f family) after() uint32 { return [...]uint32{word + 1, word + 4}[f] }

func (f family) loadAddr(offset, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.addrLen()}
}

func loadPort(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: protoOffset, Len: 2}
}

func loadProto(reg uint32) expr.Any {
	return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}
}

func lookup(set setID) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, SetName: set.String()}
}

func mapped(set setID) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: set.String()}
}

func (f family) inSet(offset uint32, set setID) []expr.Any {
	return []expr.Any{f.loadAddr(offset, reg1), lookup(set)}
}

func (f family) notInSet(offset uint32, set setID) []expr.Any {
	return []expr.Any{f.loadAddr(offset, reg1), &expr.Lookup{SourceRegister: reg1, SetName: set.String(), Invert: true}}
}

// strangers matches sources whose traffic to ClusterIPs does not keep its address; there may be none. One prefix, as most
// clusters have, is compared with: a lookup takes several times as long.
func (f family) strangers(s Static) (match []expr.Any, some bool) {
	known := ranges(f, s.unmasqueraded(f))
	if len(known) == 0 {
		return nil, true
	}
	prefix, one := known[0].Prefix()
	switch {
	case len(known) > 1 || !one:
		return f.notInSet(f.saddr(), unmasqueraded), true
	case prefix.Bits() == 0:
		return nil, false
	}
	return f.notInPrefix(f.saddr(), prefix), true
}

// notInPrefix is "ip saddr != 10.244.0.0/16". Of a prefix that ends with a byte nothing behind is loaded, as nft does it.
func (f family) notInPrefix(offset uint32, p netip.Prefix) []expr.Any {
	const bits = 8
	if n := p.Bits() / bits; p.Bits()%bits == 0 {
		return []expr.Any{
			&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(n)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte(rawAddr(p.Addr()))[:n]},
		}
	}
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return []expr.Any{
		f.loadAddr(offset, reg1),
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: f.addrLen(), Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte(rawAddr(p.Masked().Addr()))},
	}
}

// lookupSocket is "ip daddr . meta l4proto . th dport map @set".
func (f family) lookupSocket(set setID) []expr.Any {
	return []expr.Any{f.loadAddr(f.daddr(), reg1), loadProto(f.after()), loadPort(f.after() + 1), mapped(set)}
}

// lookupPort is "meta l4proto . th dport map @set".
func lookupPort(set setID) []expr.Any {
	return []expr.Any{loadProto(reg1), loadPort(word + 1), mapped(set)}
}

// lookupSource is "ip daddr . meta l4proto . th dport . ip saddr != @allowed-sources".
func (f family) lookupSource() []expr.Any {
	a := f.after()
	return []expr.Any{
		f.loadAddr(f.daddr(), reg1), loadProto(a), loadPort(a + 1), f.loadAddr(f.saddr(), a+2),
		&expr.Lookup{SourceRegister: reg1, SetName: allowedSources.String(), Invert: true},
	}
}

// lookupPair is "ip saddr . ip daddr @set".
func (f family) lookupPair(set setID) []expr.Any {
	return []expr.Any{f.loadAddr(f.saddr(), reg1), f.loadAddr(f.daddr(), f.after()), lookup(set)}
}

// lookupClient is "ip saddr . meta priority map @affinity".
func (f family) lookupClient() []expr.Any {
	return []expr.Any{f.loadAddr(f.saddr(), reg1), &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: f.after()}, mapped(affinity)}
}

// rememberClient is "update @affinity { ip saddr . meta priority timeout Xs : ip daddr . th dport }".
func (f family) rememberClient(seconds uint32) []expr.Any {
	data := [...]uint32{reg2, 3}[f]
	port := [...]uint32{word + 5, word + 12}[f]
	return []expr.Any{
		f.loadAddr(f.saddr(), reg1), &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: f.after()},
		f.loadAddr(f.daddr(), data), loadPort(port),
		&expr.Dynset{SrcRegKey: reg1, SrcRegData: data, SetName: affinity.String(),
			Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Timeout: time.Duration(seconds) * time.Second},
	}
}

func setPriority() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg1, SourceRegister: true}}
}

func clearPriority() []expr.Any {
	return append([]expr.Any{&expr.Immediate{Register: reg1, Data: native32(0)}}, setPriority()...)
}

// keepTarget is "meta priority set meta priority & TARGET | class".
func keepTarget(class uint16) []expr.Any {
	return append(loadMasked(expr.MetaKeyPRIORITY, targetMask, uint32(class)), setPriority()...)
}

func native32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func loadMasked(key expr.MetaKey, mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native32(mask), Xor: native32(xor)},
	}
}

// dispatch is "meta priority & CLASS vmap @set".
func dispatch(set setID) []expr.Any {
	return append(loadMasked(expr.MetaKeyPRIORITY, classMask, 0),
		&expr.Lookup{SourceRegister: reg1, IsDestRegSet: true, SetName: set.String()})
}

func setMark(mark uint32) []expr.Any {
	return append(loadMasked(expr.MetaKeyMARK, ^mark, mark), &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true})
}

func flipMark(mark uint32) []expr.Any {
	return append(loadMasked(expr.MetaKeyMARK, ^uint32(0), mark), &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true})
}

func markIsSet(mark uint32) []expr.Any {
	return append(loadMasked(expr.MetaKeyMARK, mark, 0), isNotZero())
}

// hasTarget is "meta priority & TARGET != 0". What routing wrote over the token is far less.
func hasTarget() []expr.Any {
	return append(loadMasked(expr.MetaKeyPRIORITY, targetMask, 0), isNotZero())
}

func isNotZero() expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: native32(0)}
}

func ctBit(key expr.CtKey, bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native32(bit), Xor: native32(0)},
		isNotZero(),
	}
}

// ctInvalid is "ct state == invalid": a packet has one state, and every packet is asked.
func ctInvalid() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: native32(ctStateInvalid)},
	}
}

func l4proto(p byte) []expr.Any {
	return []expr.Any{loadProto(reg1), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{p}}}
}

// hopsLeft is what a packet keeps at least of its TTL when it is passed on to other nodes: enough to reach a pod, which
// answers that it does not know it either. relayHops is how many nodes of a ring are asked at most.
const hopsLeft, relayHops = 8, 48

// Packets of no connection that anybody may send are passed on at this rate at most.
const relayRate, relayBurst = 20_000, 5_000

// relayLimit is "limit rate 20000/second burst 5000 packets".
func relayLimit() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: relayRate, Unit: expr.LimitTimeSecond, Burst: relayBurst}}
}

// notFirst is "tcp flags != syn / fin,syn,rst,ack ip ttl > 8": a packet that opens no
// connection, yet conntrack knows none that it is of. The second half ends what
// nodes that relay to each other would play. Each relaying takes a hop.
func (f family) notFirst() []expr.Any {
	const flagsAt, finSynRstAck, syn = 13, 0x17, 0x02
	return slices.Concat(l4proto(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{finSynRstAck}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte{syn}},
	}, f.hopsAbove(hopsLeft))
}

// hopsAbove is "ip ttl > hops".
func (f family) hopsAbove(hops byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: f.hopLimit(), Len: 1},
		&expr.Cmp{Op: expr.CmpOpGt, Register: reg1, Data: []byte{hops}},
	}
}

// fewerHops is "ip ttl > 10 ip ttl set 10", in a ring of three nodes.
func (f family) fewerHops(ring int) []expr.Any {
	most := byte(hopsLeft + max(1, min(ring-1, relayHops)))
	write := &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: f.hopLimit(), Len: 1,
	}
	if f == v4 {
		write.CsumType, write.CsumOffset = expr.CsumTypeInet, 10
	}
	return append(f.hopsAbove(most), &expr.Immediate{Register: reg1, Data: []byte{most}}, write)
}

// lookupAddr is "ip daddr @set", of a map.
func (f family) lookupAddr(set setID) []expr.Any {
	return []expr.Any{f.loadAddr(f.daddr(), reg1), mapped(set)}
}

// relay is "dup to ip daddr map @set": as it came, to that node's MAC address.
func (f family) relay(set setID) []expr.Any {
	return append(f.lookupAddr(set), &expr.Dup{RegAddr: reg1})
}

// echo is "icmp type echo-request".
func (f family) echo() []expr.Any {
	return append(l4proto(f.icmp()),
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{f.echoRequest()}})
}

// fibLocalSource is "fib saddr type local".
func fibLocalSource() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: native32(unix.RTN_LOCAL)},
	}
}

func jump(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func redirect() []expr.Any   { return []expr.Any{&expr.Redir{}} }
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func (f family) unreachable() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: f.portUnreachable()}}
}

// numgen writes a random number below mod to the register behind the token.
func numgen(mod uint32) []expr.Any {
	return []expr.Any{&expr.Numgen{Register: word + 1, Modulus: mod, Type: unix.NFT_NG_RANDOM}}
}

// hashSeed is the same on every node, so that every node chooses alike.
const hashSeed = 0x0fa171ea

// jhash writes a hash of the client's address and port below mod to the register behind the token.
func (f family) jhash(mod uint32) []expr.Any {
	source := [...]uint32{word + 6, 3}[f]
	port := [...]uint32{word + 7, word + 12}[f]
	return []expr.Any{
		f.loadAddr(f.saddr(), source),
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Hash{SourceRegister: source, DestRegister: word + 1, Length: f.addrLen() + 4, Modulus: mod, Seed: hashSeed, Type: expr.HashTypeJenkins},
	}
}

// toEndpoint is "dnat to meta priority & TARGET . SLOT map @endpoints".
func (f family) toEndpoint(slot []expr.Any) []expr.Any {
	out := loadMasked(expr.MetaKeyPRIORITY, targetMask, 0)
	out = append(out, slot...)
	return append(append(out, mapped(endpoints)), f.dnat()...)
}

// dnat goes to the address and port in register 1 and behind it.
func (f family) dnat() []expr.Any {
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.proto()),
		RegAddrMin: reg1, RegAddrMax: reg1, RegProtoMin: f.after(), RegProtoMax: f.after(), Specified: true,
	}}
}
