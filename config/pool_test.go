package config_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// spans prints what each pool gives.
func spans(c config.Config) map[string][]string {
	all := map[string][]string{}
	for _, p := range c.Pools {
		for _, span := range p.Spans() {
			all[p.Name] = append(all[p.Name], span.String())
		}
	}
	return all
}

func TestReadPools(t *testing.T) {
	barn := pool("barn", nil, "10.0.0.0/28", "10.0.0.4-10.0.0.20", "fd00::/64")
	barn.Spec.Exclude = []v1beta1.AddressRange{"10.0.0.2-10.0.0.3", "gateway"}
	cellar := pool("cellar", nil, "10.0.0.16/28", "10.0.0.1-10.0.0.3")
	c, problems := config.Read(config.Objects{
		Pools: []v1beta1.IPAddressPool{cellar, barn}, // the order of names counts, not this one
		Taken: []config.Taken{{Prefix: netip.MustParsePrefix("10.0.0.2/32"), Owner: "node n1"}},
	})
	want := map[string][]string{
		"barn":   {"10.0.0.0-10.0.0.1", "10.0.0.4-10.0.0.15", "10.0.0.16-10.0.0.20", "fd00::-fd00::ffff:ffff:ffff:ffff"},
		"cellar": {"10.0.0.21-10.0.0.31"},
	}
	if diff := cmp.Diff(want, spans(c)); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	wantProblems := []string{
		`ipaddresspool/barn: nothing is excluded by "gateway" is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20`,
		"ipaddresspool/cellar: 10.0.0.16-10.0.0.20 belongs to pool barn, whose name comes first: take it out of one of the two",
		"ipaddresspool/cellar: no address is given from 10.0.0.1-10.0.0.3, because it holds 10.0.0.2 of node n1: write a smaller range, or add 10.0.0.2 to exclude",
	}
	if diff := cmp.Diff(wantProblems, texts(problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if got := c.Pools[0].Size(config.IPv4); got != 19 {
		t.Errorf("barn has %d IPv4 addresses, want 19", got)
	}
	if got := c.Pools[0].Size(config.IPv6); got != math.MaxInt64 {
		t.Errorf("barn has %d IPv6 addresses, want %d", got, int64(math.MaxInt64))
	}
}

func texts(problems []config.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, p.String())
	}
	return all
}

// TestPoolOf asserts that the index and the pools say the same of every address, and that no address has two pools.
func TestPoolOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var objects config.Objects
		for i := range rapid.IntRange(0, 4).Draw(t, "pools") {
			p := pool(fmt.Sprint("pool", i), nil)
			for range rapid.IntRange(1, 3).Draw(t, "ranges") {
				from := rapid.IntRange(0, 60).Draw(t, "from")
				p.Spec.Addresses = append(p.Spec.Addresses, v1beta1.AddressRange(fmt.Sprintf("10.0.0.%d-10.0.0.%d", from, from+rapid.IntRange(-1, 9).Draw(t, "more"))))
			}
			if rapid.Bool().Draw(t, "excludes") {
				p.Spec.Exclude = []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 70).Draw(t, "excluded")))}
			}
			objects.Pools = append(objects.Pools, p)
		}
		c, _ := config.Read(objects)
		sizes := make([]int64, len(c.Pools))
		for addr := netip.MustParseAddr("10.0.0.0"); addr.Less(netip.MustParseAddr("10.0.0.80")); addr = addr.Next() {
			in, ok := c.PoolOf(addr)
			for i, p := range c.Pools {
				if p.Contains(addr) != (ok && i == in) {
					t.Fatalf("%s: PoolOf says %d, %t; %s contains it: %t", addr, in, ok, p.Name, p.Contains(addr))
				}
			}
			if ok {
				sizes[in]++
			}
		}
		for i, p := range c.Pools {
			if p.Size(config.IPv4) != sizes[i] {
				t.Fatalf("%s says it has %d addresses, and has %d", p.Name, p.Size(config.IPv4), sizes[i])
			}
		}
	})
}
