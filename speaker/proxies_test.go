package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProxies(t *testing.T) {
	serve := func(body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := map[string]struct {
		mode, health string // what answers there; "" for nobody
		links        []string
		ours         bool
		want         string
	}{
		"nobody":                              {},
		"kube-proxy":                          {mode: "nftables", health: "{}", want: "kube-proxy (mode nftables)"},
		"kube-proxy while we forward":         {mode: "iptables", health: "{}", ours: true, want: "kube-proxy (mode iptables)"},
		"our own health checks":               {health: "{}", ours: true},
		"something else on kube-proxy's port": {mode: "<html>"},
		"Cilium":                              {health: "{}", links: []string{"lo", "cilium_host"}, want: "Cilium"},
		"kube-router":                         {health: "{}", links: []string{"lo", "kube-dummy-if"}, want: "kube-router"},
		"Cilium beside another proxy's rest":  {links: []string{"cilium_host"}},
		"somebody unknown":                    {health: "{}", want: "a service proxy that answers health checks on port 10256"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProxies(func() []string { return test.links }, func() bool { return test.ours })
			p.modeURL, p.healthURL = gone.URL, gone.URL
			if test.mode != "" {
				p.modeURL = serve(test.mode)
			}
			if test.health != "" {
				p.healthURL = serve(test.health)
			}
			if got := p.find(t.Context()); got != test.want {
				t.Errorf("find: %q, want %q", got, test.want)
			}
		})
	}
}
