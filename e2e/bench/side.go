package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// side is one node with what is around it:
//
//	client (172.30.0.9) --- node (172.30.0.11) --+-- pod  (10.244.1.100)
//	                          |                  +-- pods (10.244.1.1 to .10: the endpoints that answer)
//	                      this program: the API server
//
// All sides have the same addresses.
type side struct {
	name                    string
	number                  int
	client, node, pod, pods netns.NsHandle
	datagrams               []int // the endpoints' UDP sockets
}

const (
	clientAddress = "172.30.0.9"
	nodeAddress   = "172.30.0.11"
	podAddress    = "10.244.1.100"
	podGateway    = "10.244.1.254"
	podCIDR       = "10.244.1.0/24"
	clusterCIDR   = "10.244.0.0/16"
	realEndpoints = 10
)

// realEndpoint is the address of an endpoint that answers.
func realEndpoint(i int) string { return fmt.Sprintf("10.244.1.%d", i+1) }

// newSide makes the namespaces and joins them. They end with this program.
func newSide(name string, number int) (*side, error) {
	s := &side{name: name, number: number}
	for _, ns := range []*netns.NsHandle{&s.client, &s.node, &s.pod, &s.pods} {
		err := in(0, func() error {
			made, err := netns.New()
			*ns = made
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("make a network namespace: %w", err)
		}
	}
	if err := errors.Join(s.settings(), s.wire()); err != nil {
		return nil, fmt.Errorf("make the network of %s: %w", name, err)
	}
	return s, nil
}

// in runs f on a thread in the namespace, 0 being this program's own; the thread ends with it.
func in(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := enter(ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// settings prepares the kernel: connections that were reset are forgotten at once, so that no table fills up.
func (s *side) settings() error {
	set := func(ns netns.NsHandle, name, value string) error {
		return in(ns, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
	}
	var err error
	for _, ns := range []netns.NsHandle{s.client, s.node, s.pod, s.pods} {
		err = errors.Join(err, set(ns, "ipv6/conf/all/disable_ipv6", "0"), set(ns, "core/somaxconn", "65535"),
			set(ns, "ipv4/ip_local_port_range", "1024 65535"), set(ns, "ipv4/tcp_max_syn_backlog", "65535"))
	}
	return errors.Join(err, set(s.node, "ipv4/ip_forward", "1"), set(s.node, "ipv6/conf/all/forwarding", "1"))
}

// shorten makes the node forget connections soon; the setting is there once a rule uses conntrack.
func (s *side) shorten() error {
	return in(s.node, func() error {
		return os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", []byte("1"), 0)
	})
}

func (s *side) wire() error {
	var pods []string
	for i := range realEndpoints {
		pods = append(pods, realEndpoint(i))
	}
	return errors.Join(
		s.join(s.client, "client", clientAddress+"/24", nodeAddress+"/24"),
		s.route(s.client, nodeAddress),
		s.join(0, fmt.Sprint("side", s.number), s.apiAddress()+"/24", fmt.Sprintf("192.168.%d.2/24", s.number)),
		s.attach(s.pod, "pod", podAddress),
		s.attach(s.pods, "pods", pods...),
	)
}

// apiAddress is where the node finds the API server.
func (s *side) apiAddress() string { return fmt.Sprintf("192.168.%d.1", s.number) }

// join makes a cable between a namespace and the node.
func (s *side) join(ns netns.NsHandle, name, there, here string) error {
	far, err := handle(ns)
	if err != nil {
		return err
	}
	defer far.Close()
	peer := "eth-" + name
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: netlink.NsFd(int(s.node))}
	if err := far.LinkAdd(cable); err != nil {
		return fmt.Errorf("add link %s: %w", name, err)
	}
	near, err := handle(s.node)
	if err != nil {
		return err
	}
	defer near.Close()
	return errors.Join(up(far, "lo", ""), up(far, name, there), up(near, "lo", ""), up(near, peer, here))
}

// attach joins pods to the node, as network plugins do: an address each, everything else by the node.
func (s *side) attach(ns netns.NsHandle, name string, addresses ...string) error {
	if err := s.join(ns, name, addresses[0]+"/32", podGateway+"/32"); err != nil {
		return err
	}
	far, err := handle(ns)
	if err != nil {
		return err
	}
	defer far.Close()
	near, err := handle(s.node)
	if err != nil {
		return err
	}
	defer near.Close()
	for i, address := range addresses {
		if i > 0 {
			err = errors.Join(err, up(far, name, address+"/32"))
		}
		err = errors.Join(err, route(near, "eth-"+name, address+"/32", ""))
	}
	return errors.Join(err, route(far, name, podGateway+"/32", ""), route(far, name, "0.0.0.0/0", podGateway))
}

func (s *side) route(ns netns.NsHandle, gateway string) error {
	h, err := handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return route(h, "client", "0.0.0.0/0", gateway)
}

func handle(ns netns.NsHandle) (*netlink.Handle, error) {
	if ns == 0 {
		h, err := netlink.NewHandle()
		if err != nil {
			return nil, fmt.Errorf("open netlink: %w", err)
		}
		return h, nil
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return h, nil
}

// up switches a link on and gives it an address, if there is one.
func up(h *netlink.Handle, name, address string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	if address == "" {
		return nil
	}
	parsed, err := netlink.ParseAddr(address)
	if err == nil {
		err = h.AddrAdd(link, parsed)
	}
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", address, name, err)
	}
	return nil
}

// route leads a destination to a link, by a gateway if there is one.
func route(h *netlink.Handle, name, to, gateway string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	_, destination, err := net.ParseCIDR(to)
	if err != nil {
		return fmt.Errorf("read %s: %w", to, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: destination, Scope: netlink.SCOPE_LINK}
	if gateway != "" {
		r.Gw, r.Scope = net.ParseIP(gateway), netlink.SCOPE_UNIVERSE
	}
	if err := h.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s to %s: %w", to, name, err)
	}
	return nil
}
