package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// fewAddresses is for how many addresses the kernel is asked one by one: each time it walks over all of conntrack's buckets. For
// IPv6 it is never asked so: ctnetlink_filter_match_tuple of linux/net/netfilter/nf_conntrack_netlink.c leaves out just those
// that have the address.
const fewAddresses = 4

// forgetEnded deletes the TCP connections to addresses that both ends have closed, or that were reset.
func (w *wire) forgetEnded(addrs []netip.Addr) error {
	var ended []flow
	for _, f := range families {
		var to []netip.Addr
		var choices []choice
		for _, a := range addrs {
			if familyOf(a) == f {
				to = append(to, a)
				choices = append(choices, choice{kind: kind{f, TCP}, to: a})
			}
		}
		if f == v6 || len(to) > fewAddresses {
			choices = []choice{{kind: kind{f, TCP}}}
		}
		for _, c := range choices {
			err := w.flows(c, func(fl flow) {
				if fl.ended && slices.Contains(to, fl.to.Addr()) {
					ended = append(ended, fl)
				}
			})
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				return nil // without the module nf_conntrack_netlink nobody can look
			}
			if err != nil && !errors.Is(err, errInterrupted) {
				return fmt.Errorf("list TCP connections: %w", err)
			}
		}
	}
	return w.forget(ended)
}
