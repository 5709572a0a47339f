package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// crier sends an Event about a BGPPeer for every session that comes up or goes down, and
// about a Service for its addresses that another host uses: who announces them is the
// controller's to tell. While there is no API
// server it is silent: status says the same, later.
type crier struct {
	log   *slog.Logger
	node  string
	to    atomic.Pointer[crierTo] // nil until the API server was reached
	limit *rate.Limiter           // of Events about Services
}

// Hundreds of addresses may move at once, and each Event costs the API server as much as a
// change of status does: after a burst there are only a few a second.
const criesPerSecond, criesAtOnce = 2, 20

type crierTo struct {
	read     client.Reader
	recorder events.EventRecorder
}

// longestNote is what the API server takes of an Event's text.
const longestNote = 1000

// cry sends the Event; it does not wait.
func (c *crier) cry(ctx context.Context, t transition) {
	to := c.to.Load()
	if to == nil {
		return
	}
	var peer v1beta1.BGPPeer
	if err := to.read.Get(ctx, types.NamespacedName{Name: t.Peer}, &peer); err != nil {
		c.log.Debug("an Event about a BGPPeer that is gone", "peer", t.Peer, "error", err)
		return
	}
	var node corev1.Node
	if err := to.read.Get(ctx, types.NamespacedName{Name: c.node}, &node); err != nil {
		c.log.Debug("an Event without its node", "error", err)
	}
	if t.Up {
		to.recorder.Eventf(&peer, &node, corev1.EventTypeNormal, v1beta1.ReasonEstablished, "Connect", "%s: the session is established", c.node)
		return
	}
	message := t.Message
	if len(message) > longestNote-len(c.node) {
		message = message[:longestNote-len(c.node)]
	}
	to.recorder.Eventf(&peer, &node, corev1.EventTypeWarning, v1beta1.ReasonSessionDown, "Disconnect", "%s: %s", c.node, message)
}

// news is what an Event about a Service says.
type news struct {
	Service         string // namespace/name
	Reason, Message string
}

// cryNews sends the Event, unless there were too many; it does not wait.
func (c *crier) cryNews(ctx context.Context, n news) {
	to := c.to.Load()
	if to == nil || !c.limit.Allow() {
		return
	}
	var service corev1.Service
	if err := to.read.Get(ctx, splitKey(n.Service), &service); err != nil {
		c.log.Debug("an Event about a Service that is gone", "service", n.Service, "error", err)
		return
	}
	to.recorder.Eventf(&service, nil, corev1.EventTypeWarning, n.Reason, "Announce", "%s", n.Message[:min(len(n.Message), longestNote)])
}
