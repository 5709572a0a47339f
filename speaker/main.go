package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/features"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/health"
	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/links"
	"github.com/fairlead/fairlead/speaker/members"
	"github.com/fairlead/fairlead/speaker/nft"
)

// version is set when the speaker is built.
var version = "unknown"

func main() {
	ctx := ctrl.SetupSignalHandler()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "cleanup" {
		err = nft.Cleanup(ctx)
	} else {
		err = start(ctx)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "speaker: %v\n", err)
		os.Exit(1)
	}
}

// start reads the flags and runs the speaker until ctx ends.
func start(ctx context.Context) error {
	o, err := parseOptions(os.Args[1:], os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.logLevel}))
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.Info("speaker starts", "version", version, "node", o.node, "forwarding", o.forwarding)
	features.ReplaceFeatureGates(lists{features.FeatureGates()})
	known := openMemory(log, o.node, o.stateDir)
	s := &speaker{
		log: log, options: o, memory: known,
		bells: bells{
			services: newDirty(), addressed: newNames(), world: make(chan struct{}, 1), links: make(chan struct{}, 1),
			announce: make(chan struct{}, 1), peers: make(chan struct{}, 1), outdated: known.outdated,
		},
	}
	return s.run(ctx)
}

// speaker is the wiring: it makes the rooms and the loops, and knows no more than who rings whom.
type speaker struct {
	log     *slog.Logger
	options options
	memory  *memory
	bells   bells
	crier   crier
	words   passwords                     // of peers
	secrets atomic.Pointer[client.Reader] // not cached; nil until the API server was reached
	silent  silent
	known   known
	kinds   kinds
	contact contact
	paces   struct{ announce, peers *pace } // for objects: what else rings cannot wait
}

// run starts two halves that do not wait for each other: announcing works from
// the last known state while there is no API server, all else needs one.
func (s *speaker) run(ctx context.Context) error {
	s.silent.rung, s.known.rung = s.bells.world, s.bells.peers
	s.crier.log, s.crier.node, s.crier.limit = s.log, s.options.node, rate.NewLimiter(criesPerSecond, criesAtOnce)
	f, a := s.forwarding(), s.announcing()
	p := s.peering(ctx, func() bool { return f.state.Load() != nil })
	f.ring, p.ringed = func() int { return int(p.ring.Load()) }, func() { ring(s.bells.world) }
	status := &statusWriter{
		log: s.log, node: s.options.node, bell: make(chan struct{}, 1),
		have: func() reached { return reached{f.state.Load(), a.state.Load(), p.state.Load(), s.kinds.lacking()} },
	}
	f.report = func() { ring(status.bell) }
	a.report, p.report = f.report, f.report
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return links.Watch(ctx, s.log, s.bells.links) })
	group.Go(func() error { return s.passOn(ctx) })
	group.Go(func() error { return s.paces.announce.run(ctx) })
	group.Go(func() error { return s.paces.peers.run(ctx) })
	group.Go(func() error { return s.runAnnouncing(ctx, a) })
	group.Go(func() error { return p.run(ctx) })
	group.Go(func() error { return s.runManager(ctx, f, status) })
	group.Go(func() error { return serveMetrics(ctx, s.options.metrics, s.options.profiling, status.have, f.metrics) })
	return group.Wait()
}

// passOn rings for all that depends on this node's links and addresses.
func (s *speaker) passOn(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.bells.links:
			ring(s.bells.world)
			ring(s.bells.announce)
		}
	}
}

// runAnnouncing announces as soon as this node's address, where gossip listens, and the key are known.
func (s *speaker) runAnnouncing(ctx context.Context, a *announcing) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		state, err := s.memory.snapshot(ctx)
		key := s.gossipKey(ctx)
		if err == nil && state.Address.IsValid() && key != nil {
			gossip, err := members.Open(members.Config{
				Name: s.options.node, Bind: netip.AddrPortFrom(state.Address, a.port), Key: key,
				Probe: s.options.probe, Timeout: s.options.probeTimeout, Suspicion: s.options.suspicion,
			}, s.log, s.bells.announce)
			if err == nil {
				a.gossip = gossip
				return a.run(ctx)
			}
			// The address may be of the past, or not be there yet.
			s.log.Error("start gossip", "address", state.Address, "error", err)
		}
		if err == nil && !state.Address.IsValid() {
			s.log.Warn("the node has no InternalIP yet: the kubelet must report one", "node", s.options.node)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.bells.announce:
		case <-tick.C:
		}
	}
}

// gossipSecret holds, under gossipKeyName, what the controller made for all speakers.
const (
	gossipSecret  = "fairlead-gossip"
	gossipKeyName = "key"
)

// gossipKey returns the key, nil while there is none. The file is there without
// the API server; but the kubelet may take a minute to show it once it was made.
func (s *speaker) gossipKey(ctx context.Context) []byte {
	key, err := os.ReadFile(s.options.gossipKeyFile)
	if err == nil {
		return key
	}
	live := s.secrets.Load()
	if live == nil {
		return nil
	}
	var secret corev1.Secret
	name := types.NamespacedName{Namespace: s.options.namespace, Name: gossipSecret}
	if err := (*live).Get(ctx, name, &secret); err != nil {
		s.log.Info("waiting for the gossip key, which the controller makes", "secret", name, "error", err)
		return nil
	}
	return secret.Data[gossipKeyName]
}

// eventSource is who our Events are from.
const eventSource = "fairlead-speaker"

// wireAgain is how long to wait before the API server is tried again.
const wireAgain = 2 * time.Second

// runManager runs what needs the API server, once it can be reached.
func (s *speaker) runManager(ctx context.Context, f *forwarding, status *statusWriter) error {
	for {
		mgr, err := s.wire(ctx, f, status)
		if err == nil {
			return mgr.Start(ctx)
		}
		s.log.Warn("the API server cannot be used yet", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wireAgain):
		}
	}
}

// wire makes a manager with the watches and the loops that need them.
func (s *speaker) wire(ctx context.Context, f *forwarding, status *statusWriter) (manager.Manager, error) {
	mgr, err := newManager(s.options, &s.contact)
	if err != nil {
		return nil, err
	}
	serviceCIDRs, err := serves(mgr.GetRESTMapper(), schema.GroupVersionKind{Group: networkingv1.GroupName, Version: "v1", Kind: "ServiceCIDR"})
	if err != nil {
		return nil, err
	}
	if err := indexCache(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	stored, err := storedServices(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	o := s.options
	read := &reader{
		client: mgr.GetCache(), addressed: s.bells.addressed, node: o.node, namespace: o.namespace,
		clusterCIDRs: o.clusterCIDRs, nodePorts: o.nodePorts, apiServer: o.apiServer,
		reserved: o.reservedPorts(), serviceCIDRs: serviceCIDRs, local: links.Snapshot, ignoreExclude: o.ignoreExclude,
		answerEcho: o.answerEcho, kinds: &s.kinds, stored: stored,
	}
	f.read, status.client = read, mgr.GetClient()
	secrets := mgr.GetAPIReader()
	s.secrets.Store(&secrets)
	goLive := func(ctx context.Context) error { // started once the cache has everything
		live, routing := read.snapshot, read.hasRouting
		s.memory.live.Store(&live)
		s.memory.routing.Store(&routing)
		s.words.use(mgr.GetCache())
		s.crier.to.Store(&crierTo{mgr.GetCache(), mgr.GetEventRecorder(eventSource)})
		ring(s.bells.announce)
		ring(s.bells.peers)
		<-ctx.Done()
		return nil
	}
	for _, run := range []manager.RunnableFunc{f.run, status.run, goLive} {
		if err := mgr.Add(run); err != nil {
			return nil, fmt.Errorf("wire the speaker: %w", err)
		}
	}
	paced := s.bells
	paced.announce, paced.peers = s.paces.announce.bell, s.paces.peers.bell // objects can wait, a node that goes silent cannot
	if err := s.watchKinds(ctx, mgr, paced); err != nil {
		return nil, err
	}
	return mgr, watchAll(ctx, mgr.GetCache(), paced, serviceCIDRs)
}

// watchKinds watches Fairlead's own kinds, each from when the API server serves it.
func (s *speaker) watchKinds(ctx context.Context, mgr manager.Manager, b bells) error {
	mapper, informers := mgr.GetRESTMapper(), mgr.GetCache()
	if err := s.kinds.ask(mapper); err != nil {
		return err
	}
	if err := s.kinds.watchServed(ctx, informers, b.configured); err != nil {
		return err
	}
	err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		return s.kinds.await(ctx, s.log, mapper, informers, b.configured)
	}))
	if err != nil {
		return fmt.Errorf("wire the speaker: %w", err)
	}
	return nil
}

func newManager(o options, api *contact) (manager.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config.Wrap(api.watch)
	config.DisableCompression = true // it takes both sides longer than the network takes for what it saves
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	cached, err := cacheOptions(o.namespace, o.node)
	if err != nil {
		return nil, err
	}
	graceful := 10 * time.Second
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: cached,
		Metrics:                 metricsserver.Options{BindAddress: "0"}, // metrics are served also without the API server
		GracefulShutdownTimeout: &graceful,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return mgr, nil
}

func (s *speaker) forwarding() *forwarding {
	f := newForwarding()
	f.hurry()
	f.log, f.mode = s.log, s.options.forwarding
	f.dirty, f.world, f.kernel = s.bells.services, s.bells.world, make(chan struct{}, 1)
	f.dead = s.silent.get
	f.health = health.New(health.Options{
		Log: s.log, Now: time.Now, Metrics: promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}),
	})
	f.healthz, f.status, f.sysctls = s.options.healthz.String(), s.options.proxyStatus, s.options.procSysNet
	f.beLiberal = s.options.beLiberal
	f.open = func() (*nft.Table, error) { return nft.Open(s.log, f.kernel) }
	others := newProxies("http://127.0.0.1:10249/proxyMode", "http://127.0.0.1:10256/healthz")
	f.others, f.traces = others.find, others.traces
	return f
}

func (s *speaker) announcing() *announcing {
	s.paces.announce = newPace(s.bells.announce, announceTempo())
	return &announcing{
		log: s.log, node: s.options.node, memory: s.memory, port: uint16(s.options.gossipPort),
		responder: l2.New(s.log, s.bells.announce), asker: l2.New(s.log, make(chan struct{}, 1)),
		bell: s.bells.announce, pace: s.paces.announce, dead: s.silent.set, know: s.known.set, uninformed: s.contact.uninformed,
		cry:  s.crier.cryNews,
		held: map[netip.Addr]hold{}, no: map[netip.Addr]refused{},
		asking: map[netip.Addr]bool{}, answers: make(chan asked, 16),
	}
}

func (s *speaker) peering(ctx context.Context, forwards func() bool) *peering {
	s.words.log, s.words.namespace, s.words.bell = s.log, s.options.namespace, s.bells.peers
	ctx = context.WithoutCancel(ctx) // the sessions end with a goodbye, not with the context
	s.paces.peers = newPace(s.bells.peers, peersTempo())
	return &peering{
		log: s.log, node: s.options.node, memory: s.memory, passwords: &s.words,
		room: bgp.New(ctx, s.log), paths: bfd.New(ctx, s.log), gateways: links.Gateways, rival: findRival,
		handoff: newHandoff(s.options.stateDir),
		members: s.known.get, forwards: forwards, bell: s.bells.peers, pace: s.paces.peers, planned: make(chan struct{}, 1), cry: s.crier.cry,
	}
}

// serves tells whether the API server knows a kind.
func serves(mapper meta.RESTMapper, kind schema.GroupVersionKind) (bool, error) {
	_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask the API server for %s: %w", kind.Kind, err)
	}
	return true, nil
}

// addressesOf are all addresses of a node's links but for link-local ones, sorted.
func addressesOf(all []links.Link) []netip.Addr {
	var found []netip.Addr
	for _, link := range all {
		for _, prefix := range link.Prefixes {
			// No Service can have those, and every pod that comes or goes brings or takes one.
			if !prefix.Addr().IsLinkLocalUnicast() {
				found = append(found, prefix.Addr())
			}
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found)
}

func linkNames() []string {
	all, err := links.Snapshot()
	if err != nil {
		return nil
	}
	var found []string
	for _, link := range all {
		found = append(found, link.Name)
	}
	return found
}
