package links

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
)

func TestGateways(t *testing.T) {
	namespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}))
	for _, name := range []string{"eth0", "far"} {
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
	}
	eth, err := netlink.LinkByName("eth0")
	must(t, err)
	addAddr(t, eth, "192.0.2.1/24")
	addAddr(t, eth, "2001:db8::1/64")
	addAddr(t, eth, "fe80::1/64")
	if got, err := Gateways(); err != nil || len(got) != 0 {
		t.Errorf("without a default route: %v, %v", got, err)
	}
	index := eth.Attrs().Index
	hop := func(addr string) *netlink.NexthopInfo {
		return &netlink.NexthopInfo{LinkIndex: index, Gw: net.ParseIP(addr)}
	}
	for _, r := range []netlink.Route{
		{LinkIndex: index, Gw: net.ParseIP("192.0.2.99"), Dst: network(t, "0.0.0.0/0"), Priority: 200},
		{MultiPath: []*netlink.NexthopInfo{hop("192.0.2.2"), hop("192.0.2.3")}, Dst: network(t, "0.0.0.0/0"), Priority: 100},
		{LinkIndex: index, Gw: net.ParseIP("192.0.2.98"), Dst: network(t, "198.51.100.0/24")},
		{LinkIndex: index, Gw: net.ParseIP("192.0.2.97"), Dst: network(t, "0.0.0.0/0"), Table: 77},
		{LinkIndex: index, Gw: net.ParseIP("fe80::99"), Dst: network(t, "::/0")},
	} {
		must(t, netlink.RouteAdd(&r))
	}
	got, err := Gateways()
	must(t, err)
	var want []netip.Addr
	for _, addr := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.99", "fe80::99%eth0"} {
		want = append(want, netip.MustParseAddr(addr))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func network(t *testing.T, cidr string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(cidr)
	must(t, err)
	return n
}

// What a truncated message of the kernel would be is refused, not read beyond its end.
func TestParseDefaultShort(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 11), {2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0, 9}} {
		if found, err := parseDefault(b); err == nil {
			t.Errorf("%v: want an error, got %v", b, found)
		}
	}
	if _, err := parseHops([]byte{200, 0, 0, 0, 1, 0, 0, 0}); err == nil {
		t.Error("a next hop that is longer than its list: want an error")
	}
}
