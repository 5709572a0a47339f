package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// contact knows whether the API server answered when it was last asked. While it does not, what this node knows of the
// cluster may be old. The zero contact has not been answered yet.
type contact struct{ answered atomic.Bool }

// uninformed tells whether the API server did not answer.
func (c *contact) uninformed() bool { return !c.answered.Load() }

// watch returns a way to the API server that takes note of its answers.
func (c *contact) watch(next http.RoundTripper) http.RoundTripper { return contactTripper{next, c} }

type contactTripper struct {
	next http.RoundTripper
	tell *contact
}

// WrappedRoundTripper lets the client find the transport below, whose connections it may have to close.
func (t contactTripper) WrappedRoundTripper() http.RoundTripper { return t.next }

var _ utilnet.RoundTripperWrapper = contactTripper{}

// RoundTrip asks, and takes note: a server that has trouble of its own does not inform anybody either. A request that we
// gave up says nothing.
func (t contactTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	switch {
	case err == nil:
		t.tell.answered.Store(response.StatusCode < http.StatusInternalServerError)
	case !errors.Is(request.Context().Err(), context.Canceled):
		t.tell.answered.Store(false)
	}
	return response, err
}
