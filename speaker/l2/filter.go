package l2

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

const (
	// snapLen is more than any ARP or NDP frame that means anything to us.
	snapLen = 512
	// maxFilter keeps the program below the socket option memory of older kernels (20 KiB).
	maxFilter = 2000
)

var (
	pass = bpf.RetConstant{Val: snapLen}
	drop = bpf.RetConstant{Val: 0}
)

// filterFor is the kernel's part of the work: frames for addresses that are not ours are
// dropped before they wake anybody. More addresses than a program can hold are left to
// the check in user space, which is made in any case.
func filterFor(p protocol, addrs []netip.Addr) ([]bpf.RawInstruction, error) {
	program := append(dropForOthers(), p.filter(addrs)...)
	if len(program) > maxFilter {
		program = append(dropForOthers(), pass)
	}
	return bpf.Assemble(program)
}

// dropForOthers drops unicast for other stations, and frames of a VLAN that has no
// interface here: the kernel marks them as somebody else's but shows them.
func dropForOthers() []bpf.Instruction {
	const packetOtherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetOtherHost, SkipFalse: 1},
		drop,
	}
}

// passShort passes frames below a length, so that they are counted as malformed.
func passShort(length uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: length, SkipTrue: 1},
		pass,
	}
}

// passAddresses passes frames that have one of the addresses at an offset, and goes on
// with the next instruction otherwise. Addresses are compared a word at a time; those
// that differ in the last word only are compared up to it once.
func passAddresses(offset uint32, addrs []netip.Addr) []bpf.Instruction {
	byPrefix := map[string][]uint32{}
	for _, a := range addrs {
		b := a.AsSlice()
		last := len(b) - 4
		byPrefix[string(b[:last])] = append(byPrefix[string(b[:last])], binary.BigEndian.Uint32(b[last:]))
	}
	var prefixes []string
	for p := range byPrefix {
		prefixes = append(prefixes, p)
	}
	slices.Sort(prefixes)
	var program []bpf.Instruction
	for _, p := range prefixes {
		slices.Sort(byPrefix[p])
		block := passLastWords(offset+uint32(len(p)), byPrefix[p])
		for at := len(p) - 4; at >= 0; at -= 4 {
			word := binary.BigEndian.Uint32([]byte(p[at:]))
			block = append([]bpf.Instruction{
				bpf.LoadAbsolute{Off: offset + uint32(at), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: word, SkipTrue: 1},
				bpf.Jump{Skip: uint32(len(block))},
			}, block...)
		}
		program = append(program, block...)
	}
	return program
}

func passLastWords(offset uint32, words []uint32) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 4}}
	for _, w := range words {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: w, SkipTrue: 1}, pass)
	}
	return program
}
