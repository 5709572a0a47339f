package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A probe is a running measuring client: this program again, inside a host.
type probe struct {
	cmd  *exec.Cmd
	once sync.Once
	done chan struct{}

	mu   sync.Mutex
	seen []attempt
}

func (l lab) startProbe(from host, o failoverOptions) (*probe, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the measuring client: %w", err)
	}
	url := "http://" + netip.AddrPortFrom(o.address, uint16(o.port)).String() + "/hostname"
	p := &probe{cmd: exec.Command(self, "probe", url), done: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the measuring client: %w", err)
	}
	if err := l.start(from, p.cmd); err != nil {
		return nil, fmt.Errorf("start the measuring client on %s: %w", from.Name, err)
	}
	go p.collect(output)
	return p, nil
}

func (p *probe) collect(output io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var a attempt
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue
		}
		p.mu.Lock()
		p.seen = append(p.seen, a)
		p.mu.Unlock()
	}
}

// stop ends the client and waits for its last line. It may be called again.
func (p *probe) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = p.cmd.Wait()
	})
}

func (p *probe) attempts() []attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]attempt(nil), p.seen...)
}

// waitSteady waits until every attempt of steadyFor has succeeded, all started at since or later.
func (p *probe) waitSteady(ctx context.Context, since time.Time) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(outageLimit)
	for {
		bad, last := since, since
		reason := "no attempt was made"
		for _, a := range p.attempts() {
			if !a.OK && a.Start.After(bad) {
				bad, reason = a.Start, a.Error
			}
			if a.OK && a.Start.After(last) {
				last = a.Start
			}
		}
		if last.Sub(bad) >= steadyFor {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not every attempt succeeds after %s; the last failure: %s", outageLimit, reason)
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("the measuring client ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probeMain is the measuring client: it prints an attempt a line until it is killed.
func probeMain(ctx context.Context, url string, out io.Writer) error {
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	client := &http.Client{
		Timeout:   probeTimeout,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		go func() {
			a := try(ctx, client, url)
			mu.Lock()
			defer mu.Unlock()
			_ = encoder.Encode(a)
		}()
	}
}

// try makes one connection with one request.
func try(ctx context.Context, client *http.Client, url string) attempt {
	a := attempt{Start: time.Now()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err == nil {
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			a.OK = err == nil && response.StatusCode == http.StatusOK
		}
	}
	a.Took = time.Since(a.Start)
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
