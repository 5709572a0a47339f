package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/speaker/health"
	"github.com/fairlead/fairlead/speaker/nft"
)

// proxies looks for other service proxies that are alive on this node. Rules
// they left behind do not count: only somebody who answers does.
type proxies struct {
	client *http.Client
	// modeURL is where kube-proxy says its mode, healthURL where every service
	// proxy answers health checks. While we forward, both may be answered by us.
	modeURL, healthURL string
	// links names this node's interfaces.
	links func() []string
	// rules tells whether nftables has rules of kube-proxy.
	rules func() (bool, error)
	// legacy names a file that lists the tables of iptables' legacy backend.
	legacy string
}

func newProxies(modeURL, healthURL string) *proxies {
	return &proxies{
		client:    &http.Client{Timeout: 500 * time.Millisecond},
		modeURL:   modeURL,
		healthURL: healthURL,
		links:     linkNames,
		rules:     nft.KubeProxyTraces,
		legacy:    "/proc/net/ip_tables_names",
	}
}

// find names the service proxy at work on this node; "" if there is none.
func (p *proxies) find(ctx context.Context) string {
	mode, ok := p.ask(ctx, p.modeURL)
	if ok && slices.Contains([]string{"iptables", "ipvs", "nftables"}, mode) {
		return fmt.Sprintf("kube-proxy (mode %s)", mode)
	}
	if _, ok := p.ask(ctx, p.healthURL); !ok {
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

// traces tells whether kube-proxy may be at work beside us without answering, because we hold its
// port. There is no live kube-proxy without traces; it may be long gone all the same.
func (p *proxies) traces() bool {
	found, err := p.rules()
	if found || err != nil || slices.Contains(p.links(), "kube-ipvs0") {
		return true
	}
	tables, err := os.ReadFile(p.legacy)
	return err == nil && slices.Contains(strings.Fields(string(tables)), "nat")
}

// ask returns the start of what a URL on this node answers; not ok if nobody does, or a speaker of
// Fairlead: this one, or the one before it that is about to end.
func (p *proxies) ask(ctx context.Context, url string) (string, bool) {
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
	ours := response.Header.Get("Server") == health.Product
	return strings.TrimSpace(string(body)), err == nil && !ours
}
