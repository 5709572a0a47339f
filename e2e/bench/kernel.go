package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// kernel asks a node's nftables over netlink.
type kernel struct {
	conn *netlink.Conn
}

func openKernel(ns netns.NsHandle) (*kernel, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns)})
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &kernel{conn}, nil
}

func (k *kernel) close() error { return k.conn.Close() }

// head is struct nfgenmsg, for IPv4.
func head(attributes []byte) []byte {
	return append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, attributes...)
}

// holds tells whether a set of a table has an address.
func (k *kernel) holds(table, set string, address netip.Addr) (bool, error) {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	e.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	e.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list *netlink.AttributeEncoder) error {
		list.Nested(unix.NFTA_LIST_ELEM, func(element *netlink.AttributeEncoder) error {
			element.Nested(unix.NFTA_SET_ELEM_KEY, func(key *netlink.AttributeEncoder) error {
				key.Bytes(unix.NFTA_DATA_VALUE, address.AsSlice())
				return nil
			})
			return nil
		})
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return false, fmt.Errorf("encode a request: %w", err)
	}
	_, err = k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM, Flags: netlink.Request},
		Data:   head(attributes),
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s in set %s: %w", address, set, err)
	}
	return true, nil
}

// arrivals notes when addresses appear in a node's tables, whoever writes them and wherever.
type arrivals struct {
	conn *netlink.Conn
	done chan struct{}

	mu      sync.Mutex
	waiting map[[4]byte]chan<- time.Time
}

// listenBuffer holds what the kernel tells of many changes at once.
const listenBuffer = 256 << 20

func watchArrivals(ns netns.NsHandle) (*arrivals, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns)})
	if err != nil {
		return nil, fmt.Errorf("open the nftables monitor: %w", err)
	}
	err = errors.Join(conn.SetReadBuffer(listenBuffer), conn.JoinGroup(unix.NFNLGRP_NFTABLES))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the nftables monitor: %w", err), conn.Close())
	}
	a := &arrivals{conn: conn, done: make(chan struct{}), waiting: map[[4]byte]chan<- time.Time{}}
	go a.run()
	return a, nil
}

func (a *arrivals) run() {
	defer close(a.done)
	for {
		messages, err := a.conn.Receive()
		now := time.Now()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
				a.notice(m.Data, now)
			}
		}
	}
}

// notice looks for the addresses that are waited for. They begin with the byte that fresh addresses have.
func (a *arrivals) notice(data []byte, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return
	}
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], 10)
		if i < 0 || at+i+4 > len(data) {
			return
		}
		at += i
		key := [4]byte(data[at : at+4])
		if to, ok := a.waiting[key]; ok {
			delete(a.waiting, key)
			to <- now
		}
		at++
	}
}

// expect returns a channel that gets the time at which the address appears.
func (a *arrivals) expect(address netip.Addr) <-chan time.Time {
	to := make(chan time.Time, 1)
	a.mu.Lock()
	a.waiting[address.As4()] = to
	a.mu.Unlock()
	return to
}

func (a *arrivals) close() error {
	err := a.conn.Close()
	<-a.done
	return err
}
