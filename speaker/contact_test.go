package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestContact asks a server that answers, has trouble, answers again, and is gone; what we give up ourselves changes nothing.
func TestContact(t *testing.T) {
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	var c contact
	if !c.uninformed() {
		t.Error("nobody was asked, and we are informed")
	}
	client := http.Client{Transport: c.watch(http.DefaultTransport)}
	ask := func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
		}
	}
	given, giveUp := context.WithCancel(t.Context())
	giveUp()
	for _, step := range []struct {
		name       string
		do         func()
		uninformed bool
	}{
		{"it answers", func() { ask(t.Context()) }, false},
		{"it has trouble", func() { code = http.StatusServiceUnavailable; ask(t.Context()) }, true},
		{"it refuses", func() { code = http.StatusForbidden; ask(t.Context()) }, false},
		{"we give up", func() { ask(given) }, false},
		{"it is gone", func() { server.Close(); ask(t.Context()) }, true},
	} {
		step.do()
		if got := c.uninformed(); got != step.uninformed {
			t.Errorf("%s: uninformed %t", step.name, got)
		}
	}
}
