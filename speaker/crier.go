package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// crier sends an Event about a BGPPeer for every session that comes up or goes down. While
// there is no API server it is silent: status says the same, later.
type crier struct {
	log  *slog.Logger
	node string
	to   atomic.Pointer[crierTo] // nil until the API server was reached
}

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
