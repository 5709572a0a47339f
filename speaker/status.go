package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// How often a speaker writes its object at most: when something happened, and
// when nothing but counts changed.
const (
	statusEvery = 200 * time.Millisecond
	countsEvery = 10 * time.Second
	statusRetry = time.Second
)

// statusWriter keeps this node's Speaker object.
type statusWriter struct {
	log    *slog.Logger
	client client.Client // reads from the cache
	node   string
	bell   chan struct{}
	have   func() reached

	written v1beta1.SpeakerStatus
	at      time.Time
}

// run writes until ctx ends. What could not be written is tried again.
func (s *statusWriter) run(ctx context.Context) error {
	tick := time.NewTicker(countsEvery)
	defer tick.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.bell:
		case <-again:
		case <-tick.C:
		}
		again = nil
		began := time.Now()
		if err := s.write(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("write the Speaker object", "error", err)
			again = time.After(statusRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statusTempo().rest(time.Since(began))):
		}
	}
}

func (s *statusWriter) write(ctx context.Context) error {
	have := s.have()
	want := report(have)
	if !s.due(want) {
		return nil
	}
	speaker, err := s.object(ctx)
	if err != nil {
		return err
	}
	before := speaker.DeepCopy()
	want.Conditions = speaker.Status.Conditions
	meta.SetStatusCondition(&want.Conditions, readiness(have.forward, have.announce))
	speaker.Status = want
	if !equality.Semantic.DeepEqual(before.Status, speaker.Status) {
		if err := s.client.Status().Patch(ctx, speaker, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("patch Speaker %s: %w", s.node, err)
		}
	}
	s.written, s.at = want, time.Now()
	return nil
}

// due tells whether a status is worth a write now.
func (s *statusWriter) due(want v1beta1.SpeakerStatus) bool {
	if time.Since(s.at) >= countsEvery {
		return true
	}
	return !equality.Semantic.DeepEqual(withoutCounts(want), withoutCounts(s.written))
}

// withoutCounts leaves out what changes with every endpoint.
func withoutCounts(status v1beta1.SpeakerStatus) v1beta1.SpeakerStatus {
	status.Conditions, status.Counts = nil, v1beta1.SpeakerCounts{}
	if status.Forwarding != nil {
		f := *status.Forwarding
		f.Generation, f.Services, f.Endpoints, f.LastSync = 0, 0, 0, nil
		status.Forwarding = &f
	}
	status.Peers = slices.Clone(status.Peers)
	for i := range status.Peers {
		status.Peers[i] = withoutAttempts(status.Peers[i])
	}
	return status
}

// withoutAttempts leaves out what changes with every attempt to connect, and with every Service.
func withoutAttempts(p v1beta1.PeerSession) v1beta1.PeerSession {
	p.LastErrorAt, p.Prefixes = nil, 0
	if p.State != string(bgp.Established) && p.State != string(bgp.Blocked) {
		p.State, p.Reason, p.Since, p.LocalAddress = string(bgp.Connect), "", nil, ""
	}
	return p
}

// object gets this node's Speaker, or makes it. It belongs to the Node, so it goes with it.
func (s *statusWriter) object(ctx context.Context) (*v1beta1.Speaker, error) {
	var speaker v1beta1.Speaker
	err := s.client.Get(ctx, types.NamespacedName{Name: s.node}, &speaker)
	if err == nil {
		return &speaker, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get Speaker %s: %w", s.node, err)
	}
	var node corev1.Node
	if err := s.client.Get(ctx, types.NamespacedName{Name: s.node}, &node); err != nil {
		return nil, fmt.Errorf("get node %s: %w", s.node, err)
	}
	speaker.Name = s.node
	speaker.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	if err := s.client.Create(ctx, &speaker); err != nil {
		return nil, fmt.Errorf("create Speaker %s: %w", s.node, err)
	}
	return &speaker, nil
}
