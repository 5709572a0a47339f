package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// proxies looks for other service proxies that are alive on this node. Rules
// they left behind do not count: only somebody who answers does.
type proxies struct {
	client *http.Client
	// modeURL is where kube-proxy says its mode, healthURL where every service
	// proxy answers health checks, us included while we forward.
	modeURL, healthURL string
	// links names this node's interfaces.
	links func() []string
	// ours tells whether the answer on healthURL would be our own.
	ours func() bool
}

func newProxies(links func() []string, ours func() bool) *proxies {
	return &proxies{
		client:    &http.Client{Timeout: 500 * time.Millisecond},
		modeURL:   "http://127.0.0.1:10249/proxyMode",
		healthURL: "http://127.0.0.1:10256/healthz",
		links:     links,
		ours:      ours,
	}
}

// find names the service proxy at work on this node; "" if there is none.
func (p *proxies) find(ctx context.Context) string {
	mode, ok := p.get(ctx, p.modeURL)
	if ok && slices.Contains([]string{"iptables", "ipvs", "nftables"}, mode) {
		return fmt.Sprintf("kube-proxy (mode %s)", mode)
	}
	if p.ours() {
		return ""
	}
	if _, ok := p.get(ctx, p.healthURL); !ok {
		return ""
	}
	links := p.links()
	switch {
	case slices.Contains(links, "cilium_host"):
		return "Cilium"
	case slices.Contains(links, "kube-dummy-if"):
		return "kube-router"
	}
	return "a service proxy that answers health checks on port 10256"
}

// get returns the start of what a URL on this node answers; not ok if nobody does.
func (p *proxies) get(ctx context.Context, url string) (string, bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", false
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64))
	return strings.TrimSpace(string(body)), err == nil
}
