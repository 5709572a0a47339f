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
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

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
	key, err := os.ReadFile(o.gossipKeyFile)
	if err != nil {
		return fmt.Errorf("read the gossip key: %w", err)
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	s := &speaker{
		log: log, options: o, manager: mgr,
		bells: bells{services: newDirty(), world: make(chan struct{}, 1), announce: make(chan struct{}, 1)},
	}
	if err := s.wire(ctx, key); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func newManager(o options) (manager.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	cached, err := cacheOptions(o.namespace)
	if err != nil {
		return nil, err
	}
	graceful := 10 * time.Second
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: cached,
		Metrics:                 metricsserver.Options{BindAddress: o.metrics},
		GracefulShutdownTimeout: &graceful,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return mgr, nil
}

// speaker is the wiring: it makes the rooms and the loops, and knows no more than who rings whom.
type speaker struct {
	log     *slog.Logger
	options options
	manager manager.Manager
	bells   bells
	read    *reader
	silent  silent
}

func (s *speaker) wire(ctx context.Context, key []byte) error {
	serviceCIDRs, err := serves(s.manager.GetRESTMapper(), schema.GroupVersionKind{Group: networkingv1.GroupName, Version: "v1", Kind: "ServiceCIDR"})
	if err != nil {
		return err
	}
	if err := indexSlices(ctx, s.manager.GetFieldIndexer()); err != nil {
		return err
	}
	o := s.options
	s.read = &reader{
		client: s.manager.GetCache(), node: o.node, namespace: o.namespace,
		clusterCIDRs: o.clusterCIDRs, nodePorts: o.nodePorts, apiServer: o.apiServer,
		reserved: o.reservedPorts(), serviceCIDRs: serviceCIDRs, local: localAddresses, ignoreExclude: o.ignoreExclude,
	}
	s.silent.rung = s.bells.world
	gossip, err := s.gossip(ctx, key)
	if err != nil {
		return err
	}
	f, a := s.forwarding(), s.announcing(gossip)
	status := &statusWriter{
		log: s.log, client: s.manager.GetClient(), node: o.node, bell: make(chan struct{}, 1),
		have: func() (*forwardState, *announceState) { return f.state.Load(), a.state.Load() },
	}
	f.report = func() { ring(status.bell) }
	a.report = f.report
	for _, run := range []func(context.Context) error{
		func(ctx context.Context) error { return links.Watch(ctx, s.log, s.bells.announce) },
		f.run, a.run, status.run,
	} {
		if err := s.manager.Add(manager.RunnableFunc(run)); err != nil {
			return fmt.Errorf("wire the speaker: %w", err)
		}
	}
	return watchAll(ctx, s.manager.GetCache(), s.bells, serviceCIDRs)
}

// gossip starts on this node's first address, which only the API server knows.
func (s *speaker) gossip(ctx context.Context, key []byte) (*members.Gossip, error) {
	var node corev1.Node
	if err := s.manager.GetAPIReader().Get(ctx, types.NamespacedName{Name: s.options.node}, &node); err != nil {
		return nil, fmt.Errorf("get node %s: %w", s.options.node, err)
	}
	own := nodeAddresses(&node)
	if len(own) == 0 {
		return nil, fmt.Errorf("node %s has no InternalIP: the kubelet must report one", s.options.node)
	}
	gossip, err := members.Open(members.Config{
		Name: s.options.node, Bind: netip.AddrPortFrom(own[0], uint16(s.options.gossipPort)), Key: key,
	}, s.log, s.bells.announce)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return gossip, nil
}

func (s *speaker) forwarding() *forwarding {
	f := newForwarding()
	f.log, f.read, f.mode = s.log, s.read, s.options.forwarding
	f.dirty, f.world, f.kernel = s.bells.services, s.bells.world, make(chan struct{}, 1)
	f.dead = s.silent.get
	f.health = health.New(health.Options{Log: s.log, Now: time.Now})
	f.healthz, f.sysctls = s.options.healthz.String(), s.options.procSysNet
	f.open = func() (*nft.Table, error) { return nft.Open(s.log, f.kernel) }
	others := newProxies(linkNames, func() bool { state := f.state.Load(); return state != nil && state.Active })
	f.others = others.find
	return f
}

func (s *speaker) announcing(gossip *members.Gossip) *announcing {
	return &announcing{
		log: s.log, read: s.read, gossip: gossip, port: uint16(s.options.gossipPort),
		responder: l2.New(s.log, s.bells.announce), asker: l2.New(s.log, make(chan struct{}, 1)),
		bell: s.bells.announce, dead: s.silent.set,
		held: map[netip.Addr]hold{}, no: map[netip.Addr]refused{},
		asking: map[netip.Addr]bool{}, answers: make(chan asked, 16),
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

// localAddresses are all addresses of this node's interfaces, sorted; none if they cannot be read.
func localAddresses() []netip.Addr {
	all, err := links.Snapshot()
	if err != nil {
		return nil
	}
	var found []netip.Addr
	for _, link := range all {
		for _, prefix := range link.Prefixes {
			found = append(found, prefix.Addr())
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
