package members

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate gives memberlist our records to exchange, and takes those of others.
type delegate Gossip

// NodeMeta is empty: memberlist's own meta is too small for ours.
func (d *delegate) NodeMeta(int) []byte { return nil }

// GetBroadcasts is empty: records go to each member directly.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// NotifyMsg takes a record that a member sent us.
func (d *delegate) NotifyMsg(b []byte) { (*Gossip)(d).take(b) }

// LocalState is all we know, so that a member that could not reach another learns of it.
func (d *delegate) LocalState(bool) []byte { return encode(d.book.all()...) }

// MergeRemoteState takes all that another member knows.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { (*Gossip)(d).take(b) }

func (g *Gossip) take(b []byte) {
	records, err := decode(b)
	if err != nil {
		g.log.Debug("a message was not understood", "bytes", len(b), "error", err)
		return
	}
	changed, refute := g.book.learn(records, time.Now())
	if refute {
		ring(g.wake)
	}
	if changed {
		ring(g.bell)
	}
}

// events hears from memberlist who comes and goes.
type events Gossip

// NotifyJoin is called for every member that is alive from now on, also for this one.
func (e *events) NotifyJoin(n *memberlist.Node) {
	if n.Name == e.cfg.Name {
		return
	}
	e.book.joined(n.Name, addressOf(n), time.Now())
	e.log.Info("member is alive", "member", n.Name, "address", addressOf(n))
	(*Gossip)(e).untell(n.Name)
	ring(e.bell)
}

// NotifyLeave is called for every member that died or left.
func (e *events) NotifyLeave(n *memberlist.Node) {
	if n.Name == e.cfg.Name {
		return
	}
	state := e.book.gone(n.Name, time.Now())
	e.log.Info("member is gone", "member", n.Name, "address", addressOf(n), "state", state)
	ring(e.bell)
}

// NotifyUpdate is for memberlist's own meta, which we do not use.
func (e *events) NotifyUpdate(*memberlist.Node) {}
