package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// monitor listens to what others do to our tables.
type monitor struct {
	conn *netlink.Conn
	done chan struct{}
}

// monitorBuffer bounds what others may do before we merely know that something was done.
const monitorBuffer = 4 << 20

// watch calls ring, from a goroutine of its own, whenever somebody but the
// socket with that port changed a table of ours, or may have.
func watch(own uint32, ring func()) (*monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open nftables monitor: %w", err)
	}
	m := &monitor{conn: conn, done: make(chan struct{})}
	filter, err := bpf.Assemble(notFrom(own))
	if err == nil {
		err = errors.Join(conn.SetBPF(filter), conn.SetReadBuffer(monitorBuffer), conn.JoinGroup(unix.NFNLGRP_NFTABLES))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up nftables monitor: %w", err), conn.Close())
	}
	go m.run(ring)
	return m, nil
}

// notFrom lets the kernel drop the notices of our own transactions: all
// messages of one notice come from the same socket.
func notFrom(port uint32) []bpf.Instruction {
	const portOffset = 12 // in struct nlmsghdr
	var native [4]byte
	binary.NativeEndian.PutUint32(native[:], port)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: portOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(native[:]), SkipFalse: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 30},
	}
}

// monitorErrors in a row end the monitor: what it would have heard is then found by
// full wishes only.
const monitorErrors = 10

func (m *monitor) run(ring func()) {
	defer close(m.done)
	for failed := 0; failed < monitorErrors; failed++ {
		messages, err := m.conn.Receive()
		switch {
		case err == nil:
			failed = 0
		case errors.Is(err, unix.ENOBUFS):
			ring() // some are lost, they may have been about us
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF):
			return
		default:
			ring()
		}
		if concerns(messages) {
			ring()
		}
	}
}

// concerns tells whether any notice is about a table of ours.
func concerns(messages []netlink.Message) bool {
	for _, m := range messages {
		typ := uint16(m.Header.Type)
		if typ>>8 != unix.NFNL_SUBSYS_NFTABLES || typ&0xff == unix.NFT_MSG_NEWGEN || len(m.Data) < genmsgLen {
			continue
		}
		if text(attribute(m.Data[genmsgLen:], unix.NFTA_TABLE_NAME)) == TableName && !aboutRelays(typ, m.Data[genmsgLen:]) {
			return true
		}
	}
	return false
}

// aboutRelays tells whether a notice is about elements that the Table does not keep.
func aboutRelays(typ uint16, attrs []byte) bool {
	switch typ & 0xff {
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		set := text(attribute(attrs, unix.NFTA_SET_ELEM_LIST_SET))
		return set == relays.String() || set == rings.String()
	}
	return false
}

// deaf runs f while nobody listens: for large transactions the kernel would
// spend more time on telling us what we did than on doing it. It reports
// whether somebody else changed anything meanwhile.
func (m *monitor) deaf(w *wire, f func() error) (disturbed bool, err error) {
	before, err := w.generation()
	if err != nil {
		return true, err
	}
	if err := m.conn.LeaveGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return true, err
	}
	err = f()
	if joinErr := m.conn.JoinGroup(unix.NFNLGRP_NFTABLES); joinErr != nil {
		return true, errors.Join(err, joinErr)
	}
	after, genErr := w.generation()
	return after != before+1, errors.Join(err, genErr)
}

func (m *monitor) close() error {
	err := m.conn.Close()
	<-m.done
	return err
}
