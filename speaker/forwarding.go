package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/health"
	"github.com/fairlead/fairlead/speaker/nft"
)

// healEvery is how often the kernel's table is read back although nothing
// is known to have changed it.
const healEvery = 5 * time.Minute

// roundEvery is how long a round begins after the one before at the earliest:
// of many changes in a row, those that come within it are applied together.
const roundEvery = 10 * time.Millisecond

// lookEvery is how often another service proxy is looked for. A kube-proxy that finds its port
// taken tries again every 5 seconds.
const lookEvery = 10 * time.Second

// retryFirst and retryMost bound the wait after a failed attempt.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 10 * time.Second
)

// forwardState is what the forwarding loop reached, for status and health.
type forwardState struct {
	Active     bool
	Mode       string
	Reason     string
	Message    string
	Generation int64
	Services   int
	Endpoints  int
	LastSync   time.Time
	LastError  string
	Problems   []problem
}

// forwarding keeps the kernel's table equal to the Services. Its cost follows
// the change: a Service is translated again only when it, one of its
// EndpointSlices, or something all translations depend on has changed.
type forwarding struct {
	log    *slog.Logger
	read   *reader
	mode   string
	dirty  *dirty
	kernel chan struct{} // rung by nft when somebody else changed our table
	world  chan struct{} // rung when something all translations depend on may have changed
	dead   func() map[string]bool
	ring   func() int                   // how many nodes routers lead announced addresses to; 0 for none
	others func(context.Context) string // names another live service proxy, or ""
	traces func() bool                  // tells whether kube-proxy may be there but not answer, because we have its port
	open   func() (*nft.Table, error)
	report func() // called after every state change

	state   atomic.Pointer[forwardState]
	metrics *programming

	table *nft.Table
	// now is the environment as it was last read; stale tells that it must be read again.
	now       environment
	stale     bool
	triggers  []time.Time // what the changes since the last successful round come from
	env       environment // what the translations were made in
	announce  *announced  // nil if it must be made anew
	troubles  *troubles
	health    *health.Server
	healthz   string // address of /healthz and /livez
	status    string // address of /proxyMode; "" for none
	other     string // the service proxy that was at work when we last looked
	yields    bool   // the address status is left to kube-proxy, so that a live one is noticed
	sysctls   string // where /proc/sys/net is
	beLiberal bool   // whether conntrack is told to take segments outside the window
	kernelIs  *nft.Kernel
	checks    map[string]health.Check // of Services with a health check node port
	known     map[string]bool         // Services that the table has something of
	balancers *shared                 // the addresses that load balancers gave
	pinged    *shared                 // those of Services that somebody serves
	wait      time.Duration
	garbage   int       // how much garbage is let be once the start is over, in percent; see hurry
	forgot    time.Time // when to look again for connections to endpoints that have gone
	swept     time.Time // when to look again for connections that are older than their Service
}

func newForwarding() *forwarding {
	return &forwarding{
		metrics:   newProgramming(),
		stale:     true,
		troubles:  newTroubles(),
		checks:    map[string]health.Check{},
		known:     map[string]bool{},
		balancers: newShared(),
		pinged:    newShared(),
	}
}

// run loops until ctx ends. It leaves the table in place: forwarding goes on
// while the speaker restarts.
func (f *forwarding) run(ctx context.Context) error {
	defer func() {
		if f.table != nil {
			_ = f.table.Close()
		}
	}()
	full := true
	f.look(ctx)
	proxies := time.NewTicker(lookEvery)
	defer proxies.Stop()
	heal := time.NewTicker(healEvery)
	defer heal.Stop()
	for {
		began := time.Now()
		full = f.round(ctx, full)
		rest := forwardTempo().rest(time.Since(began))
		f.sweep() // has a pace of its own: changes do not wait for it to be rested from
		f.relax()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(rest, roundEvery-time.Since(began))):
		}
		var retry <-chan time.Time
		if f.wait > 0 {
			retry = time.After(f.wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.dirty.bell:
		case <-f.kernel:
		case <-f.world:
			f.stale = true
		case <-f.toSweep():
		case <-retry:
			f.stale = true
		case <-proxies.C:
			f.stale = true
			f.look(ctx)
		case <-heal.C:
			full = true
		}
	}
}

// round does what is due and tells whether the next round must start from the
// whole world again.
func (f *forwarding) round(ctx context.Context, full bool) bool {
	active, reason, message := f.wanted()
	if !active {
		f.off(ctx, reason, message)
		return true
	}
	if err := f.on(ctx, full, reason, message); err != nil {
		if ctx.Err() != nil {
			return full
		}
		f.log.Error("apply the forwarding table", "error", err)
		f.wait = min(max(2*f.wait, retryFirst), retryMost)
		f.fail(reason, err)
		return full
	}
	f.wait = 0
	return false
}

// look notes who else forwards on this node.
func (f *forwarding) look(ctx context.Context) {
	if f.mode == "off" {
		return
	}
	f.other = f.others(ctx)
	f.yields = f.mode == "auto" && f.status != "" && f.traces()
}

// wanted says whether this node forwards, and why.
func (f *forwarding) wanted() (bool, string, string) {
	switch {
	case f.mode == "off":
		return false, "Off", "forwarding is switched off by --forwarding=off"
	case f.mode == "on" && f.other != "":
		return true, "On", "forwarding is switched on by --forwarding=on, although " + f.other + " forwards on this node too"
	case f.mode == "on":
		return true, "On", "forwarding is switched on by --forwarding=on"
	case f.other != "":
		return false, "OtherProxy", f.other + " forwards on this node: Fairlead keeps off and takes over once it is gone"
	case f.yields:
		return true, "On", "no other service proxy is at work on this node, but rules are left as kube-proxy makes them: " +
			f.status + " is kept free, so that a kube-proxy that starts is noticed"
	}
	return true, "On", "no other service proxy is at work on this node"
}

// off removes our tables once and remembers why.
func (f *forwarding) off(ctx context.Context, reason, message string) {
	if s := f.state.Load(); s != nil && !s.Active && s.Reason == reason && s.LastError == "" {
		return
	}
	if f.table != nil {
		_ = f.table.Close()
		f.table = nil
	}
	clear(f.known)
	clear(f.checks)
	f.health.Apply(ctx, health.Want{})
	state := forwardState{Mode: f.mode, Reason: reason, Message: message}
	if err := nft.Cleanup(ctx); err != nil {
		state.LastError = fmt.Errorf("remove the forwarding table: %w", err).Error()
		f.wait = retryMost
	}
	f.log.Info("forwarding is off", "reason", reason, "message", message)
	f.publish(state)
}

// on applies what changed.
func (f *forwarding) on(ctx context.Context, full bool, reason, message string) error {
	if f.table == nil {
		table, err := f.open()
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		f.table, full = table, true
	}
	began := time.Now()
	env, err := f.environment(ctx)
	if err != nil {
		return err
	}
	wish, err := f.wish(ctx, env, full)
	if err != nil {
		return err
	}
	reached, err := f.table.Apply(ctx, wish)
	f.env = env
	f.metrics.errors.Add(float64(reached.Errors))
	if err != nil {
		return err
	}
	f.measure(began, reached)
	f.logApplied(wish, reached)
	f.prepareKernel()
	f.done(reached, f.serveHealth(ctx, env), reason, message)
	if reached.ReadBack {
		// That took a multiple of the memory that is needed from now on, and the node has other use for it.
		go debug.FreeOSMemory()
	}
	return nil
}

// environment is what all translations depend on; it is read again only if that may have changed.
func (f *forwarding) environment(ctx context.Context) (environment, error) {
	if !f.stale {
		return f.now, nil
	}
	env, err := f.read.environment(ctx)
	if err != nil {
		return env, err
	}
	env.Node.Dead = f.dead()
	env.Static.DropInvalid = f.kernelIs == nil || !f.kernelIs.Liberal // unless known: what the last speaker most likely did
	env.Static.Ring = f.ring()
	f.now, f.stale, f.announce = env, false, nil
	return env, nil
}

// serveHealth answers health checks for what the kernel now holds.
func (f *forwarding) serveHealth(ctx context.Context, env environment) []problem {
	f.health.Updated()
	want := health.Want{Proxy: f.healthz, Status: f.status, NodeEligible: env.Eligible}
	if f.yields {
		want.Status = ""
	}
	if env.NodePortsRestricted {
		want.Addresses = env.Static.NodePortAddresses
	}
	for _, key := range slices.Sorted(maps.Keys(f.checks)) {
		want.Checks = append(want.Checks, f.checks[key])
	}
	var problems []problem
	for _, p := range f.health.Apply(ctx, want) {
		object := "speaker/" + env.Node.Name
		if p.Service != "" {
			object = "service/" + p.Service
		}
		problems = append(problems, problem{object, v1beta1.ReasonHealthCheckFailed, p.String()})
	}
	return problems
}

// logApplied writes one line for a round that changed the kernel.
func (f *forwarding) logApplied(wish nft.Wish, reached nft.Report) {
	if reached.Transactions == 0 {
		return
	}
	f.log.Info("forwarding table changed", "changed", len(wish.Changed), "added", reached.Added,
		"deleted", reached.Deleted, "rules", reached.Rules, "services", reached.Services, "endpoints", reached.Endpoints)
}

// done publishes a round that reached the wish.
func (f *forwarding) done(reached nft.Report, problems []problem, reason, message string) {
	before := f.state.Load()
	state := forwardState{
		Active: true, Mode: f.mode, Reason: reason, Message: message,
		Services: reached.Services, Endpoints: reached.Endpoints,
	}
	state.Problems = slices.Concat(f.troubles.list(), contestProblems(reached.Contests), problems)
	state.Problems = append(state.Problems, f.kernelProblems(f.env.Node.Name)...)
	if before != nil {
		state.Generation, state.LastSync = before.Generation, before.LastSync
	}
	if reached.ReadBack || reached.Transactions > 0 {
		state.LastSync = time.Now()
	}
	state.Generation += int64(reached.Transactions)
	f.publish(state)
}

// fail publishes a round that did not.
func (f *forwarding) fail(reason string, err error) {
	state := forwardState{Active: true, Mode: f.mode, Reason: reason}
	if before := f.state.Load(); before != nil {
		state = *before
	}
	state.LastError = err.Error()
	f.publish(state)
}

func (f *forwarding) publish(state forwardState) {
	f.state.Store(&state)
	f.report()
}
