package main

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/links"
)

// leave says goodbye, goes on answering until the others have taken over, and stops.
func (a *announcing) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handoverTime)
	defer cancel()
	var want []l2.Announcement
	until := time.Now().Add(handoverTime)
	for _, h := range a.held {
		h.Announcement.Until = until
		want = append(want, h.Announcement)
	}
	all, err := links.Snapshot()
	if err == nil {
		_, err = a.responder.Apply(ctx, want, all)
	}
	if err != nil {
		a.log.Error("hand the addresses over", "error", err)
	}
	if err := a.gossip.Leave(ctx); err != nil {
		a.log.Error("leave the other speakers", "error", err)
	}
	a.waitHanded(ctx, len(want))
	a.log.Info("addresses handed over", "count", len(want))
	err = a.responder.Close()
	if a.relays != nil {
		err = errors.Join(err, a.relays.Close())
	}
	return err
}

// waitHanded waits until every address was heard from a successor or ctx ends.
func (a *announcing) waitHanded(ctx context.Context, count int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for count > 0 {
		waiting := false
		for _, state := range a.responder.Report().States {
			waiting = waiting || (!state.Handed && state.Problem == "")
		}
		if !waiting {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
