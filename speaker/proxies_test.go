package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/speaker/health"
)

func TestProxies(t *testing.T) {
	serve := func(body string, ours bool) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if ours {
				w.Header().Set("Server", health.Product)
			}
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
		oursMode     bool // a speaker answers there
		oursHealth   bool
		want         string
	}{
		"nobody":                              {},
		"kube-proxy":                          {mode: "nftables", health: "{}", want: "kube-proxy (mode nftables)"},
		"kube-proxy while we forward":         {mode: "iptables", health: "{}", oursHealth: true, want: "kube-proxy (mode iptables)"},
		"only we":                             {mode: health.Mode, health: "{}", oursMode: true, oursHealth: true},
		"our own health checks":               {health: "{}", oursHealth: true},
		"our own mode, another's health":      {mode: health.Mode, health: "{}", oursMode: true, links: []string{"cilium_host"}, want: "Cilium"},
		"something else on kube-proxy's port": {mode: "<html>"},
		"Cilium":                              {health: "{}", links: []string{"lo", "cilium_host"}, want: "Cilium"},
		"kube-router":                         {health: "{}", links: []string{"lo", "kube-dummy-if"}, want: "kube-router"},
		"Cilium beside another proxy's rest":  {links: []string{"cilium_host"}},
		"somebody unknown":                    {health: "{}", want: "a service proxy that answers health checks on port 10256"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProxies(gone.URL, gone.URL)
			p.links = func() []string { return test.links }
			if test.mode != "" {
				p.modeURL = serve(test.mode, test.oursMode)
			}
			if test.health != "" {
				p.healthURL = serve(test.health, test.oursHealth)
			}
			if got := p.find(t.Context()); got != test.want {
				t.Errorf("find: %q, want %q", got, test.want)
			}
		})
	}
}

func TestTraces(t *testing.T) {
	tests := map[string]struct {
		rules  bool
		links  []string
		legacy string
		want   bool
	}{
		"nothing":                        {links: []string{"lo", "eth0"}},
		"rules in nftables":              {rules: true, want: true},
		"the interface of its ipvs mode": {links: []string{"kube-ipvs0"}, want: true},
		"iptables' legacy backend":       {legacy: "filter\nnat\n", want: true},
		"a legacy table that it lacks":   {legacy: "filter\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProxies("", "")
			p.rules = func() (bool, error) { return test.rules, nil }
			p.links = func() []string { return test.links }
			p.legacy = filepath.Join(t.TempDir(), "names")
			if test.legacy != "" {
				if err := os.WriteFile(p.legacy, []byte(test.legacy), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := p.traces(); got != test.want {
				t.Errorf("traces: %v, want %v", got, test.want)
			}
		})
	}
}
