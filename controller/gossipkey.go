package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	gossipSecret = "fairlead-gossip"
	gossipLength = 32 // AES-256
)

// gossipKey makes the key by which speakers know each other, if there is none. An existing key is never changed: a
// speaker that has another one would be alone.
type gossipKey struct {
	client    client.Client
	live      client.Reader
	namespace string
	log       *slog.Logger
}

// Start tries until the Secret exists.
func (g *gossipKey) Start(ctx context.Context) error {
	const every = 2 * time.Second
	_ = wait.PollUntilContextCancel(ctx, every, true, func(ctx context.Context) (bool, error) {
		if err := g.make(ctx); err != nil {
			g.log.Warn("make the gossip key", "error", err)
			return false, nil
		}
		return true, nil
	})
	return nil
}

// NeedLeaderElection is false: speakers wait for the key, whoever leads.
func (g *gossipKey) NeedLeaderElection() bool { return false }

func (g *gossipKey) make(ctx context.Context) error {
	name := client.ObjectKey{Namespace: g.namespace, Name: gossipSecret}
	err := g.live.Get(ctx, name, &corev1.Secret{})
	if err == nil || !apierrors.IsNotFound(err) {
		return err
	}
	key := make([]byte, gossipLength)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("draw a key: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: name.Namespace, Name: name.Name,
			Labels: map[string]string{"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "gossip"},
		},
		Data: map[string][]byte{"key": key},
	}
	if err := g.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make Secret %s: %w", name, err)
	}
	return nil
}
