package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNetns calls f with a netlink handle and the file of a named network namespace.
func inNetns(name string, f func(*netlink.Handle, netns.NsHandle) error) error {
	ns, err := netns.GetFromPath(netnsPath(name))
	if err != nil {
		return fmt.Errorf("open network namespace %s (is the lab up?): %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", name, err)
	}
	defer h.Close()
	return f(h, ns)
}

// makeSubnet creates the namespace and the bridge of a subnet.
func makeSubnet(s subnet) error {
	if err := makeNetns(s.netnsName()); err != nil {
		return err
	}
	// The bridge is a switch: it learns addresses and floods the rest, it filters nothing.
	quiet := map[string]string{
		"net/ipv6/conf/default/disable_ipv6":  "1",
		"net/bridge/bridge-nf-call-iptables":  "0",
		"net/bridge/bridge-nf-call-ip6tables": "0",
		"net/bridge/bridge-nf-call-arptables": "0",
	}
	if err := setSysctls(s.netnsName(), quiet); err != nil {
		return err
	}
	return inNetns(s.netnsName(), func(h *netlink.Handle, _ netns.NsHandle) error {
		snooping := false
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
		bridge.Name = s.Name
		if err := h.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make bridge %s: %w", s.Name, err)
		}
		return h.LinkSetUp(bridge)
	})
}

// attachHost connects a host to its subnets and gives it addresses and routes.
func attachHost(h host) error {
	if err := setSysctls(h.netnsName(), h.sysctls()); err != nil {
		return err
	}
	return inNetns(h.netnsName(), func(inside *netlink.Handle, ns netns.NsHandle) error {
		lo, err := inside.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo of %s: %w", h.Name, err)
		}
		if err := inside.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set lo of %s up: %w", h.Name, err)
		}
		for i, n := range h.NICs {
			if err := plugIn(h, n, fmt.Sprintf("eth%d", i), ns); err != nil {
				return err
			}
			if err := configure(inside, n, fmt.Sprintf("eth%d", i)); err != nil {
				return fmt.Errorf("configure %s: %w", h.Name, err)
			}
		}
		return addRoutes(inside, h)
	})
}

// plugIn makes the cable between a host's interface and its port, named after the host, on the bridge.
func plugIn(h host, n nic, name string, inside netns.NsHandle) error {
	return inNetns(n.Subnet.netnsName(), func(sw *netlink.Handle, _ netns.NsHandle) error {
		cable := netlink.NewVeth(netlink.NewLinkAttrs())
		cable.Name, cable.PeerName = h.Name, name
		cable.PeerNamespace, cable.PeerHardwareAddr = netlink.NsFd(inside), net.HardwareAddr(n.mac())
		if err := sw.LinkAdd(cable); err != nil {
			return fmt.Errorf("plug %s into %s: %w", h.Name, n.Subnet.Name, err)
		}
		return joinBridge(sw, h, n.Subnet)
	})
}

func joinBridge(sw *netlink.Handle, h host, s subnet) error {
	bridge, err := sw.LinkByName(s.Name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", s.Name, err)
	}
	port, err := sw.LinkByName(h.Name)
	if err != nil {
		return fmt.Errorf("find the port of %s on %s: %w", h.Name, s.Name, err)
	}
	if err := sw.LinkSetMaster(port, bridge); err != nil {
		return fmt.Errorf("join %s to %s: %w", h.Name, s.Name, err)
	}
	return sw.LinkSetUp(port)
}

func configure(inside *netlink.Handle, n nic, name string) error {
	link, err := inside.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, p := range n.prefixes() {
		// The addresses are ours alone: duplicate address detection would only cost a second.
		addr := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}
		if err := inside.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", p, name, err)
		}
	}
	return inside.LinkSetUp(link)
}

func addRoutes(inside *netlink.Handle, h host) error {
	for _, r := range h.routes() {
		if err := inside.RouteReplace(&netlink.Route{Dst: ipNet(r.Dst), Gw: r.Via.AsSlice()}); err != nil {
			return fmt.Errorf("add route %s via %s on %s: %w", r.Dst, r.Via, h.Name, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctls lists the host's kernel settings, as paths under /proc/sys.
func (h host) sysctls() map[string]string {
	s := map[string]string{
		"net/ipv6/conf/all/disable_ipv6":     "0",
		"net/ipv6/conf/default/disable_ipv6": "0",
		"net/ipv6/conf/default/accept_dad":   "0",
		"net/ipv6/conf/all/accept_dad":       "0",
		"net/ipv6/conf/default/accept_ra":    "0",
		"net/ipv4/conf/all/rp_filter":        "0",
		"net/ipv4/conf/default/rp_filter":    "0",
	}
	if h.forwards() {
		s["net/ipv4/ip_forward"] = "1"
		s["net/ipv6/conf/all/forwarding"] = "1"
	}
	if h.Role == roleFRR || h.Role == roleBIRD {
		// Of equal routes, each connection takes one: by addresses alone, a client would always get the same node.
		s["net/ipv4/fib_multipath_hash_policy"] = "1"
		s["net/ipv6/fib_multipath_hash_policy"] = "1"
	}
	if h.Role == roleNode {
		// Replies between two pods of one node cross only the bridge: without this they would skip the
		// address translation that has to be undone on them.
		s["net/bridge/bridge-nf-call-iptables"] = "1"
		s["net/bridge/bridge-nf-call-ip6tables"] = "1"
	}
	return s
}

// setSysctls writes settings in a network namespace, in sorted order. A setting of a kernel module that is
// not there is left out: the bridge filter is one, and a cluster without it only loses hairpin cases.
func setSysctls(netnsName string, values map[string]string) error {
	paths := make([]string, 0, len(values))
	for p := range values {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return onThread(func() error {
		ns, err := netns.GetFromPath(netnsPath(netnsName))
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", netnsName, err)
		}
		defer func() { _ = ns.Close() }()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", netnsName, err)
		}
		for _, p := range paths {
			file := "/proc/sys/" + p
			if !exists(file) {
				continue
			}
			if err := os.WriteFile(file, []byte(values[p]), 0o644); err != nil {
				return fmt.Errorf("set %s in %s: %w", p, netnsName, err)
			}
		}
		return nil
	})
}

// moveApart plugs a host's cable into a second switch of the subnet, which is there from the first time on.
func moveApart(sw *netlink.Handle, port netlink.Link, s subnet) error {
	second, err := sw.LinkByName(s.apart())
	if err != nil {
		snooping := false
		second = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.apart()}, MulticastSnooping: &snooping}
		if err := sw.LinkAdd(second); err != nil {
			return fmt.Errorf("make the second switch of %s: %w", s.Name, err)
		}
	}
	if err := sw.LinkSetUp(second); err != nil {
		return fmt.Errorf("make the second switch of %s: %w", s.Name, err)
	}
	return sw.LinkSetMaster(port, second)
}

// setLink changes the host's cable to its first subnet: up; down, as if it was pulled, the host sees it;
// silent, as if the switch was broken, frames are lost and the host sees nothing; or apart, on a second switch with
// the other hosts that are apart: the network is in two halves.
func setLink(h host, state string) error {
	s := h.NICs[0].Subnet
	return inNetns(s.netnsName(), func(sw *netlink.Handle, _ netns.NsHandle) error {
		port, err := sw.LinkByName(h.Name)
		if err != nil {
			return fmt.Errorf("find the port of %s on %s: %w", h.Name, s.Name, err)
		}
		switch state {
		case "up":
			return joinBridge(sw, h, s)
		case "down":
			return sw.LinkSetDown(port)
		case "silent":
			return sw.LinkSetNoMaster(port)
		case "apart":
			return moveApart(sw, port, s)
		}
		return fmt.Errorf("a link is up, down, silent or apart, not %q", state)
	})
}
