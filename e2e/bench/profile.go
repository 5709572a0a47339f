package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profiled asks the speaker for a profile, if profiles are wanted, and calls the returned function when that is written.
func (b *bench) profiled(ctx context.Context, x *proxy, file, query string) (wait func() error) {
	if b.profile == "" || x != b.fairlead {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- b.fetchProfile(ctx, file, query) }()
	return func() error { return <-done }
}

func (b *bench) fetchProfile(ctx context.Context, file, query string) error {
	const metricsPort = 7480
	url := fmt.Sprintf("http://192.168.%d.2:%d/debug/pprof/%s", b.fairlead.number, metricsPort, query)
	return eventually(ctx, 10*time.Second, "the speaker serves profiles", func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask for a profile: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("ask for a profile: %w", err)
		}
		defer response.Body.Close()
		return b.keep(file, response.Body)
	})
}

func (b *bench) keep(file string, from io.Reader) error {
	to, err := os.Create(filepath.Join(b.profile, file))
	if err != nil {
		return fmt.Errorf("keep a profile: %w", err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("keep a profile: %w", err)
	}
	return nil
}
