package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/speaker/members"
)

// options are the speaker's flags, read and checked.
type options struct {
	node          string
	namespace     string
	forwarding    string
	clusterCIDRs  []netip.Prefix
	nodePorts     nodePortAddresses
	gossipPort    int
	gossipKeyFile string
	metrics       string
	healthz       netip.AddrPort
	proxyStatus   string
	procSysNet    string
	logLevel      slog.Level
	apiServer     []netip.AddrPort
	ignoreExclude bool
	answerEcho    bool
	beLiberal     bool
	probe         time.Duration
	probeTimeout  time.Duration
	suspicion     int
	stateDir      string
	profiling     bool
}

// parseOptions reads the arguments. The error of a bad one says what to write instead.
func parseOptions(args []string, getenv func(string) string, output io.Writer) (options, error) {
	var o options
	var clusterCIDR, nodePorts, healthz, proxyStatus string
	flags := flag.NewFlagSet("speaker", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&o.node, "node-name", getenv("NODE_NAME"), "name of the Kubernetes node this speaker runs on (default $NODE_NAME)")
	flags.StringVar(&o.namespace, "namespace", getenv("POD_NAMESPACE"), "namespace of the speaker pods, where gossip finds its peers (default $POD_NAMESPACE)")
	flags.StringVar(&o.forwarding, "forwarding", "auto", "program Service forwarding on this node: auto (unless another service proxy is at work), on or off")
	flags.StringVar(&clusterCIDR, "cluster-cidr", "", "comma-separated CIDRs of all pods of the cluster (default: the podCIDRs of this node)")
	flags.StringVar(&nodePorts, "nodeport-addresses", "primary", "addresses that answer on node ports, comma-separated: primary, CIDRs that hold them, or interfaces that have them")
	flags.IntVar(&o.gossipPort, "gossip-bind-port", 7947, "TCP and UDP port on which the speakers know each other")
	flags.StringVar(&o.gossipKeyFile, "gossip-key-file", "/etc/fairlead/gossip/key", "file with the 16, 24 or 32 byte key that encrypts gossip")
	flags.StringVar(&o.metrics, "metrics-bind-address", ":7480", "address of /metrics; 0 switches it off")
	flags.StringVar(&healthz, "healthz-bind-address", "0.0.0.0:10256", "address of /healthz and /livez while this node forwards")
	flags.StringVar(&proxyStatus, "proxy-status-bind-address", "127.0.0.1:10249", "address of /proxyMode and /metrics, where tools ask kube-proxy, while this node forwards; 0 switches it off")
	flags.StringVar(&o.procSysNet, "proc-sys-net", "/proc/sys/net", "where the node's /proc/sys/net is mounted")
	flags.BoolVar(&o.ignoreExclude, "ignore-exclude-lb", false, "announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers")
	flags.BoolVar(&o.answerEcho, "answer-echo", true, "answer pings to the addresses of Services that have a ready endpoint")
	flags.BoolVar(&o.beLiberal, "conntrack-tcp-be-liberal", false, "while this node forwards, have conntrack take TCP segments outside the window for part of their connection, for the whole node")
	flags.DurationVar(&o.probe, "gossip-probe-interval", members.DefaultProbe, "how often a speaker probes another one; slower networks need more")
	flags.DurationVar(&o.probeTimeout, "gossip-probe-timeout", members.DefaultTimeout, "how long the answer to a probe may take")
	flags.IntVar(&o.suspicion, "gossip-suspicion", members.DefaultSuspicion, "for how many probe intervals a silent speaker is suspected before it is dead")
	flags.StringVar(&o.stateDir, "state-dir", "", "folder of the node for the last known state, from which a speaker starts while the API server cannot be reached (default: none)")
	flags.BoolVar(&o.profiling, "profiling", false, "serve Go's profiles beside /metrics, under /debug/pprof/")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.clusterCIDRs, err = parsePrefixes(clusterCIDR); err != nil {
		return o, fmt.Errorf("--cluster-cidr: %w", err)
	}
	if o.nodePorts, err = parseNodePortAddresses(nodePorts); err != nil {
		return o, fmt.Errorf("--nodeport-addresses: %w", err)
	}
	if o.healthz, err = parseBindAddress(healthz); err != nil {
		return o, fmt.Errorf("--healthz-bind-address: %w", err)
	}
	if proxyStatus != "0" {
		socket, err := parseBindAddress(proxyStatus)
		if err != nil {
			return o, fmt.Errorf("--proxy-status-bind-address: %w", err)
		}
		o.proxyStatus = socket.String()
	}
	o.apiServer = apiServerSocket(getenv)
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unknown command %q: the only one is cleanup, which removes our forwarding tables", rest[0])
	case o.node == "":
		return errors.New("--node-name is missing: set it, or the environment variable NODE_NAME, to this node's name")
	case o.namespace == "":
		return errors.New("--namespace is missing: set it, or the environment variable POD_NAMESPACE, to the namespace of the speaker pods")
	case !slices.Contains([]string{"auto", "on", "off"}, o.forwarding):
		return fmt.Errorf("--forwarding=%s: write auto, on or off", o.forwarding)
	case o.gossipPort < 1 || o.gossipPort > 65535:
		return fmt.Errorf("--gossip-bind-port=%d: write a port from 1 to 65535", o.gossipPort)
	case o.probeTimeout <= 0 || o.probe < o.probeTimeout:
		return fmt.Errorf("--gossip-probe-timeout=%s: write a time up to --gossip-probe-interval, which is %s", o.probeTimeout, o.probe)
	case o.suspicion < 1:
		return fmt.Errorf("--gossip-suspicion=%d: write a number from 1", o.suspicion)
	}
	if _, err := os.Stat(o.procSysNet); err != nil {
		return fmt.Errorf("--proc-sys-net: %w", err)
	}
	return nil
}

// parseBindAddress reads address:port; without an address it is every address.
func parseBindAddress(text string) (netip.AddrPort, error) {
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	socket, err := netip.ParseAddrPort(text)
	if err != nil {
		return socket, fmt.Errorf("%q is not an address and a port: write one such as 0.0.0.0:10256 or :10256", text)
	}
	return socket, nil
}

// apiServerSocket is where this process was told the API server is.
func apiServerSocket(getenv func(string) string) []netip.AddrPort {
	addr, err := netip.ParseAddr(getenv("KUBERNETES_SERVICE_HOST"))
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(getenv("KUBERNETES_SERVICE_PORT"), 10, 16)
	if err != nil {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(port))}
}

// reservedPorts are ports of this node that no Service may capture: the
// kubelet's, and our own.
func (o options) reservedPorts() map[uint16]bool {
	return map[uint16]bool{10250: true, uint16(o.gossipPort): true, o.healthz.Port(): true}
}
