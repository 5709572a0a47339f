package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/speaker/nft"
)

// openRelays reads what an earlier speaker on this node passed on.
func (a *announcing) openRelays(now time.Time) map[netip.Addr]relay {
	found := map[netip.Addr]relay{}
	opened, err := nft.OpenRelays()
	var have map[netip.Addr]netip.Addr
	if err == nil {
		a.relays = opened
		have, err = a.relays.Read()
	}
	if err != nil {
		a.log.Warn("open connections of addresses that move here may be lost", "error", err)
	}
	for address, to := range have {
		found[address] = relay{to, now}
	}
	return found
}

// pass makes the kernel pass on what it should. An address is taken all the same if that fails.
func (a *announcing) pass(ctx context.Context, next map[netip.Addr]relay) {
	if a.relays == nil || len(next) == 0 && len(a.passed) == 0 {
		return
	}
	want := map[netip.Addr]netip.Addr{}
	for address, r := range next {
		want[address] = r.To
		if a.passed[address].To != r.To {
			a.log.Info("open connections live on through the node that had the address", "address", address, "node", r.To)
		}
	}
	if err := a.relays.Apply(ctx, want); err != nil {
		a.log.Warn("open connections of addresses that move here may be lost", "error", err)
	}
	a.passed = next
}
