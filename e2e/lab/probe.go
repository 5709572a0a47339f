package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
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
	p := &probe{cmd: exec.Command(self, "probe", url, strconv.Itoa(o.rate), strconv.Itoa(o.kept)), done: make(chan struct{})}
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

// waitSteady waits until every attempt of steadyFor has succeeded, all started at since or later, and some that long after since.
func (p *probe) waitSteady(ctx context.Context, since time.Time, lasts time.Duration) error {
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
		if last.Sub(bad) >= steadyFor && last.Sub(since) >= lasts {
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

// A caller is the measuring client: it prints an attempt a line until it is killed.
type caller struct {
	url     string
	rate    int // new connections a second
	kept    int // connections that stay open
	mu      sync.Mutex
	encoder *json.Encoder
}

// newCaller reads the arguments that startProbe gives: a URL and two numbers.
func newCaller(args []string, out io.Writer) (*caller, error) {
	if len(args) != 3 {
		return nil, errors.New("usage: lab probe URL RATE KEPT")
	}
	rate, err := strconv.Atoi(args[1])
	kept, keptErr := strconv.Atoi(args[2])
	return &caller{url: args[0], rate: rate, kept: kept, encoder: json.NewEncoder(out)}, errors.Join(err, keptErr)
}

func (c *caller) say(a attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.encoder.Encode(a)
}

// call makes connections until ctx ends.
func (c *caller) call(ctx context.Context) error {
	for i := range c.kept {
		go c.keep(ctx, keptEvery*time.Duration(i)/time.Duration(c.kept))
	}
	client := &http.Client{
		Timeout:   probeTimeout,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	tick := time.NewTicker(time.Second / time.Duration(c.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		go func() { c.say(try(ctx, client, c.url)) }()
	}
}

// keptEvery is how often something is asked on a connection that is kept.
const keptEvery = 100 * time.Millisecond

// keep asks again and again on one connection. When that breaks, it says so and opens another.
func (c *caller) keep(ctx context.Context, offset time.Duration) {
	<-time.After(offset)
	tick := time.NewTicker(keptEvery)
	defer tick.Stop()
	var open *keptConnection
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if open == nil {
			open, _ = keptTo(ctx, c.url) // an address that does not answer is what the other attempts measure
			continue
		}
		a := open.ask()
		c.say(a)
		if !a.OK {
			_ = open.conn.Close()
			open = nil
		}
	}
}

// A keptConnection is an open connection to a URL's server.
type keptConnection struct {
	conn    net.Conn
	read    *bufio.Reader
	request *http.Request
}

func keptTo(ctx context.Context, url string) (*keptConnection, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("keep a connection to %s: %w", url, err)
	}
	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", request.URL.Host)
	if err != nil {
		return nil, fmt.Errorf("keep a connection to %s: %w", url, err)
	}
	return &keptConnection{conn, bufio.NewReader(conn), request}, nil
}

// ask makes one request.
func (k *keptConnection) ask() attempt {
	a := attempt{Start: time.Now(), Kept: true}
	err := errors.Join(k.conn.SetDeadline(a.Start.Add(keptTimeout)), k.request.Write(k.conn))
	if err == nil {
		var response *http.Response
		if response, err = http.ReadResponse(k.read, k.request); err == nil {
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

// try makes one connection with one request. An error says how far it came: whether the other side's kernel answered,
// and whether the program there did.
func try(ctx context.Context, client *http.Client, url string) attempt {
	var reached atomic.Value // written by other goroutines, also when the attempt is over
	reached.Store("not connected")
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { reached.Store("connected") },
		WroteRequest: func(httptrace.WroteRequestInfo) { reached.Store("connected and asked") },
	})
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
		a.Error = fmt.Sprintf("%v (%s)", err, reached.Load())
	}
	return a
}
