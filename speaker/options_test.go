package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/speaker/links"
)

func TestParseOptions(t *testing.T) {
	env := map[string]string{
		"NODE_NAME": "node1", "POD_NAMESPACE": "fairlead-system",
		"KUBERNETES_SERVICE_HOST": "172.30.0.10", "KUBERNETES_SERVICE_PORT": "6443",
	}
	getenv := func(name string) string { return env[name] }
	tests := map[string]struct {
		args []string
		want string // part of the error, "" for none
	}{
		"defaults":                    {},
		"everything":                  {args: []string{"--forwarding=on", "--cluster-cidr=10.244.0.0/16,fd44::/16", "--nodeport-addresses=192.168.0.0/24", "--healthz-bind-address=:10256", "--proxy-status-bind-address=0"}},
		"an unknown mode":             {args: []string{"--forwarding=yes"}, want: "write auto, on or off"},
		"a CIDR that is none":         {args: []string{"--cluster-cidr=10.244.0.0"}, want: `--cluster-cidr: "10.244.0.0" is not a CIDR`},
		"node ports that are none":    {args: []string{"--nodeport-addresses=192.168.0.2"}, want: "--nodeport-addresses:"},
		"an address without a port":   {args: []string{"--healthz-bind-address=0.0.0.0"}, want: "write one such as"},
		"a port alone":                {args: []string{"--proxy-status-bind-address=10249"}, want: "--proxy-status-bind-address:"},
		"an unknown command":          {args: []string{"clean"}, want: `unknown command "clean"`},
		"an empty node name":          {args: []string{"--node-name="}, want: "--node-name is missing"},
		"an empty namespace":          {args: []string{"--namespace="}, want: "--namespace is missing"},
		"a port out of range":         {args: []string{"--gossip-bind-port=70000"}, want: "from 1 to 65535"},
		"a probe that waits too long": {args: []string{"--gossip-probe-timeout=1s"}, want: "up to --gossip-probe-interval, which is 150ms"},
		"no suspicion at all":         {args: []string{"--gossip-suspicion=0"}, want: "write a number from 1"},
		"a slow network":              {args: []string{"--gossip-probe-interval=1s", "--gossip-probe-timeout=500ms", "--gossip-suspicion=4", "--answer-echo=false"}},
		"sysctls that are not there":  {args: []string{"--proc-sys-net=/does/not/exist"}, want: "--proc-sys-net:"},
		"a level that is none":        {args: []string{"--log-level=loud"}, want: "log-level"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(test.args, getenv, io.Discard)
			if test.want == "" {
				if err != nil {
					t.Fatalf("parseOptions: %v", err)
				}
				want := []netip.AddrPort{netip.MustParseAddrPort("172.30.0.10:6443")}
				if diff := cmp.Diff(want, o.apiServer, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
					t.Errorf("the API server (-want +got):\n%s", diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parseOptions: %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestNodePortAddresses(t *testing.T) {
	addrs := func(texts ...string) []netip.Addr {
		var found []netip.Addr
		for _, text := range texts {
			found = append(found, netip.MustParseAddr(text))
		}
		return found
	}
	internal := addrs("192.168.0.2", "192.168.7.2", "fd00::2")
	link := func(name string, texts ...string) links.Link {
		l := links.Link{Name: name}
		for _, text := range texts {
			l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(text))
		}
		return l
	}
	local := []links.Link{
		link("lo", "127.0.0.1/8", "::1/128"), link("cni0", "10.244.1.1/24"),
		link("eth0", "192.168.0.2/24", "fd00::2/64", "fe80::1/64"), link("eth1", "192.168.7.2/24"),
	}
	tests := map[string]struct {
		text string
		want []netip.Addr
	}{
		"primary is the first of each family":     {"primary", addrs("192.168.0.2", "fd00::2")},
		"a CIDR is the addresses inside":          {"192.168.7.0/24", addrs("192.168.7.2")},
		"everything, but loopback and link-local": {"0.0.0.0/0, ::/0", addrs("10.244.1.1", "192.168.0.2", "192.168.7.2", "fd00::2")},
		"a CIDR with no address":                  {"10.0.0.0/24", nil},
		"an interface":                            {"eth0", addrs("192.168.0.2", "fd00::2")},
		"interfaces that are not there, or loop":  {"eth7,lo", nil},
		"all of them together":                    {"primary, eth1,10.244.0.0/16", addrs("10.244.1.1", "192.168.0.2", "192.168.7.2", "fd00::2")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n, err := parseNodePortAddresses(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, n.choose(internal, local), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("choose (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodePortAddressesAreRefused(t *testing.T) {
	for _, text := range []string{"192.168.0.2", "fd00::2", "192.168.0.0/33", "a name", "longer-than-fifteen", "primary,eth0:1"} {
		if n, err := parseNodePortAddresses(text); err == nil {
			t.Errorf("%q is taken for %+v", text, n)
		}
	}
}
