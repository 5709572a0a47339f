//go:build interop

package bgp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/speaker/bgp"
	"github.com/fairlead/fairlead/speaker/bgp/routertest"
)

const birdBase = `
router id 10.9.0.2;
protocol device {}
protocol kernel { ipv4 { export all; }; merge paths on; }
protocol kernel { ipv6 { export all; }; merge paths on; }
`

// bird returns what BIRD has for the prefix: the attributes, one per line, without the
// words "BGP.".
func bird(r *routertest.Router, p string) string {
	var lines []string
	for _, line := range strings.Split(r.Birdc("show route for "+p+" all"), "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "BGP.") {
			lines = append(lines, strings.TrimPrefix(line, "BGP."))
		}
	}
	return strings.Join(lines, "\n")
}

func untilBIRD(t testing.TB, r *routertest.Router, p, want string) {
	t.Helper()
	r.Until(10*time.Second, func() string {
		if got := bird(r, p); got != want {
			return fmt.Sprintf("BIRD has %s\n got %s\nwant %s\n%s", p, got, want, r.Birdc("show protocols all node"))
		}
		return ""
	})
}

func TestBIRD(t *testing.T) {
	const channels = " ipv4 { import all; export none; }; ipv6 { import all; export none; };"
	tests := []struct {
		name, config string
		peer         func(*bgp.Peer)
		want         map[string]string
	}{
		{
			name:   "eBGP with all attributes",
			config: "protocol bgp node { local 10.9.0.2 as 64513; neighbor 10.9.0.1 as 64512; ipv4 { import all; export none; }; }\n",
			want: map[string]string{"192.0.2.10/32": "origin: IGP\nas_path: 64512 64512\nnext_hop: 10.9.0.1\nmed: 5\n" +
				"local_pref: 100\ncommunity: (64512,9) (65535,65281)\nlarge_community: (64512, 1, 2)"},
		}, {
			name:   "iBGP, dual stack over IPv6",
			config: "protocol bgp node { local fd09::2 as 64512; neighbor fd09::1 as 64512; direct;" + channels + " }\n",
			peer: func(p *bgp.Peer) {
				p.Address, p.ASN, p.Families = addr("fd09::2"), bgp.Internal, []bgp.Family{bgp.IPv4, bgp.IPv6}
			},
			want: map[string]string{
				"192.0.2.10/32":    "origin: IGP\nas_path:\nnext_hop: 10.9.0.1\nmed: 5\nlocal_pref: 300\ncommunity: (64512,9) (65535,65281)\nlarge_community: (64512, 1, 2)",
				"2001:db8::10/128": "origin: IGP\nas_path:\nnext_hop: fd09::1\nlocal_pref: 100",
			},
		}, {
			name: "MD5 and GTSM",
			config: "protocol bgp node { local 10.9.0.2 as 64513; neighbor 10.9.0.1 as 64512; password \"s3cret\"; ttl security on;" +
				" ipv4 { import all; export none; }; }\n",
			peer: func(p *bgp.Peer) { p.Password, p.TTLSecurity = "s3cret", 1 },
			want: map[string]string{"192.0.2.10/32": "origin: IGP\nas_path: 64512 64512\nnext_hop: 10.9.0.1\nmed: 5\n" +
				"local_pref: 100\ncommunity: (64512,9) (65535,65281)\nlarge_community: (64512, 1, 2)"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			router := routertest.NewRouter(t, "bird")
			router.Link("r1", links...)
			router.StartBIRD(birdBase + test.config)
			room, peer, a := newRoom(t), basic(), v4()
			if test.peer != nil {
				test.peer(&peer)
			}
			a.MED, a.Prepend, a.LocalPref = bgp.Metric{Value: 5, Set: true}, 1, bgp.Metric{Value: 300, Set: true}
			a.Communities = []uint32{64512<<16 | 9, 65535<<16 | 65281}
			a.Large = []bgp.LargeCommunity{{Global: 64512, Data1: 1, Data2: 2}}
			apply(t, room, peer, a, v6())
			_, took := untilEstablished(t, room)
			for p, want := range test.want {
				untilBIRD(t, router, p, want)
			}
			apply(t, room, peer)
			for p := range test.want {
				untilBIRD(t, router, p, "")
			}
			t.Logf("established after %s", took.Round(time.Millisecond))
		})
	}
}
