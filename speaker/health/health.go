// Package health answers those who ask over HTTP whether this node can take
// traffic: load balancers ask each Service's health check node port, cloud
// controllers and probes ask /healthz and /livez, and tools that know kube-proxy ask
// /proxyMode and /metrics. The answers are kube-proxy's, byte for byte, because there
// are health checkers that read them; only the header Server tells them apart.
//
// It opens listening sockets and knows a clock. Out of scope: deciding what is
// healthy; it is told by values.
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Check is the health check node port of one Service
// (type LoadBalancer, externalTrafficPolicy Local).
type Check struct {
	Namespace, Name string
	Port            uint16
	// LocalEndpoints are the distinct ready addresses on this node. Terminating ones do
	// not count: that is how a drain is announced to the load balancer.
	LocalEndpoints int
}

func (c Check) key() string { return c.Namespace + "/" + c.Name }

// Want is all that shall be served.
type Want struct {
	// Proxy is the address for /healthz and /livez, such as ":10256"; empty for none.
	Proxy string
	// Status is the address for /proxyMode and /metrics, such as "127.0.0.1:10249"; empty for none.
	Status string
	// Addresses are where health check node ports listen; none means all addresses.
	Addresses []netip.Addr
	Checks    []Check
	// NodeEligible is false while the node is being deleted or carries the taint
	// ToBeDeletedByClusterAutoscaler (KEP-3836). It shows on /healthz only.
	NodeEligible bool
}

// Problem is a port that could not be opened. Apply tries again each time.
type Problem struct {
	// Service is namespace/name, empty for the addresses Proxy and Status.
	Service string
	Address string
	Err     error
}

func (p Problem) String() string {
	if p.Service == "" {
		return fmt.Sprintf("listen on %s: %v", p.Address, p.Err)
	}
	return fmt.Sprintf("listen on %s for %s: %v", p.Address, p.Service, p.Err)
}

// Options are what a Server is made of.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Late is after how long a change that did not reach the kernel makes us
	// unhealthy; 0 is a minute.
	Late time.Duration
	// Metrics answers /metrics on the address Status; nil for not found.
	Metrics http.Handler
}

const defaultLate = time.Minute

// Server serves what it was last told. It is safe for concurrent use.
type Server struct {
	log     *slog.Logger
	now     func() time.Time
	late    time.Duration
	metrics http.Handler

	mu       sync.Mutex
	want     Want
	counts   map[string]int
	open     map[socket]opened
	pending  time.Time // since when a change waits, zero if none does
	updated  time.Time
	serving  sync.WaitGroup
	eligible bool
}

// socket is one listening socket and whom it is for.
type socket struct {
	address string
	service string // empty for the proxy's own
	network string
	status  bool // the proxy's own that is not for health checks
}

// opened is what serves a socket. The listener is closed beside the server: a
// server that has not begun to serve does not know it yet.
type opened struct {
	server   *http.Server
	listener net.Listener
}

func (o opened) close() error {
	err := o.server.Close()
	if listenerErr := o.listener.Close(); err == nil && !errors.Is(listenerErr, net.ErrClosed) {
		err = listenerErr
	}
	return err
}

// New makes a server that serves nothing yet.
func New(o Options) *Server {
	return &Server{log: o.Log, now: o.Now, late: cmp.Or(o.Late, defaultLate), metrics: o.Metrics, counts: map[string]int{}, open: map[socket]opened{}}
}

// Queued tells that something changed that the kernel does not have yet.
func (s *Server) Queued() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.IsZero() {
		s.pending = s.now()
	}
}

// Updated tells that the kernel has everything.
func (s *Server) Updated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = time.Time{}
	s.updated = s.now()
}

// Apply opens, closes and updates what is served. Sockets that stay are not
// touched. Of two Services with the same port the one that has it keeps it, then
// the first by name gets it; the other is among the Problems, sorted.
func (s *Server) Apply(ctx context.Context, want Want) []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.eligible = want, want.NodeEligible
	s.counts = make(map[string]int, len(want.Checks))
	for _, c := range want.Checks {
		s.counts[c.key()] = c.LocalEndpoints
	}
	wanted := sockets(want)
	for have, o := range s.open {
		if !slices.Contains(wanted, have) {
			s.close(have, o)
		}
	}
	var problems []Problem
	for _, w := range wanted {
		if _, is := s.open[w]; is {
			continue
		}
		if err := s.listen(ctx, w); err != nil {
			problems = append(problems, Problem{Service: w.service, Address: w.address, Err: err})
		}
	}
	return problems
}

// sockets are all that shall be open, sorted.
func sockets(w Want) []socket {
	var out []socket
	if w.Proxy != "" {
		out = append(out, socket{address: w.Proxy, network: "tcp"})
	}
	if w.Status != "" {
		out = append(out, socket{address: w.Status, network: "tcp", status: true})
	}
	for _, c := range w.Checks {
		if c.Port == 0 {
			continue
		}
		port := strconv.Itoa(int(c.Port))
		if len(w.Addresses) == 0 {
			out = append(out, socket{address: net.JoinHostPort("", port), service: c.key(), network: "tcp"})
		}
		for _, a := range w.Addresses {
			out = append(out, socket{address: net.JoinHostPort(a.String(), port), service: c.key(), network: "tcp"})
		}
	}
	slices.SortFunc(out, func(a, b socket) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.address, b.address))
	})
	return slices.Compact(out)
}

func (s *Server) listen(ctx context.Context, at socket) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, at.network, at.address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler(at), ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout}
	s.open[at] = opened{server, l}
	s.serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("health check ended", "address", at.address, "service", at.service, "error", err)
		}
	})
	s.log.Info("health check opened", "address", at.address, "service", at.service)
	return nil
}

// A health check is one small question.
const (
	readTimeout = 5 * time.Second
	idleTimeout = 30 * time.Second
)

func (s *Server) close(at socket, o opened) {
	if err := o.close(); err != nil {
		s.log.Warn("health check not closed", "address", at.address, "error", err)
	}
	delete(s.open, at)
	s.log.Info("health check closed", "address", at.address, "service", at.service)
}

// Close ends all sockets and waits for those that serve them.
func (s *Server) Close() error {
	s.mu.Lock()
	var errs []error
	for at, o := range s.open {
		errs = append(errs, o.close())
		delete(s.open, at)
	}
	s.mu.Unlock()
	s.serving.Wait()
	return errors.Join(errs...)
}
