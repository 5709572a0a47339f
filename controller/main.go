// Command controller gives every Service of type LoadBalancer an address from an IPAddressPool and says why.
//
// It reads the world from a cache, decides (package ipam, status.go: pure), and writes Services' statuses, pools and
// Events. It announces nothing and forwards nothing: that is the speaker. Nothing in here knows of interfaces or nodes'
// kernels.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// options are the flags.
type options struct {
	metricsAddr string
	probeAddr   string
	leaderElect bool
	class       string
	namespace   string
	logLevel    slog.Level
	letPoolsGo  bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func run() error {
	o, err := parseFlags(flag.CommandLine, os.Args[1:])
	if err != nil {
		return err
	}
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.logLevel})
	log := slog.New(handler)
	ctrl.SetLogger(logr.FromSlogHandler(quiet{handler}))
	klog.SetSlogLogger(slog.New(quiet{handler}))

	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	if o.letPoolsGo {
		return letPoolsGo(ctx, cfg)
	}
	mgr, err := newManager(ctx, unlimited(cfg), o, log)
	if err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the controller: %w", err)
	}
	return nil
}

// parseFlags reads the flags; what is not given has the defaults of the documentation.
func parseFlags(flags *flag.FlagSet, args []string) (options, error) {
	var o options
	flags.StringVar(&o.metricsAddr, "metrics-bind-address", ":8080", "where /metrics is served, \"0\" for nowhere")
	flags.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "let only one of several replicas give addresses")
	flags.StringVar(&o.class, "load-balancer-class", "", "serve the Services of this loadBalancerClass; empty: those that have none")
	flags.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the lease and of the gossip key; default: $POD_NAMESPACE")
	flags.BoolVar(&o.letPoolsGo, "let-pools-go", false, "annotate every IPAddressPool so that it may be deleted while in use, and exit: before Fairlead is uninstalled")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("read the flags: %w", err)
	}
	if o.namespace == "" {
		return o, fmt.Errorf("read the flags: --namespace is missing, and so is $POD_NAMESPACE")
	}
	return o, nil
}

// unlimited lifts the client's own limit: the API server has a better one.
func unlimited(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.UserAgent = fieldManager
	return cfg
}
