package nft

import "testing"

func TestKubeProxyTraces(t *testing.T) {
	tests := []struct {
		name, make string
		want       bool
	}{
		{"nothing", "", false},
		{"another table", "add table ip other", false},
		{"iptables without kube-proxy", "add table ip nat; add chain ip nat POSTROUTING", false},
		{"the nftables mode", "add table ip kube-proxy", true},
		{"the nftables mode, IPv6 alone", "add table ip6 kube-proxy", true},
		{"the iptables mode", "add table ip nat; add chain ip nat KUBE-SERVICES", true},
		{"the iptables mode, IPv6 alone", "add table ip6 nat; add chain ip6 nat KUBE-SERVICES", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpace(t)
			apply(t, s.open(nil), full(map[string]Service{"a/b": sample()}))
			if test.make != "" {
				s.run("nft", test.make)
			}
			var got bool
			s.do(func() (err error) {
				got, err = KubeProxyTraces()
				return err
			})
			if got != test.want {
				t.Errorf("traces: %v, want %v", got, test.want)
			}
		})
	}
}
