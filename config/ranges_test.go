package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/config"
)

func TestParseRange(t *testing.T) {
	for _, test := range []struct{ text, want, wantErr string }{
		{text: "192.168.10.0/24", want: "192.168.10.0-192.168.10.255"},
		{text: "192.168.10.0/32", want: "192.168.10.0-192.168.10.0"},
		{text: "192.168.10.7", want: "192.168.10.7-192.168.10.7"},
		{text: "192.168.10.5-192.168.10.20", want: "192.168.10.5-192.168.10.20"},
		{text: "192.168.10.5 - 192.168.10.20", want: "192.168.10.5-192.168.10.20"},
		{text: "192.168.10.5-192.168.10.5", want: "192.168.10.5-192.168.10.5"},
		{text: "fd00::/120", want: "fd00::-fd00::ff"},
		{text: "FD00::1-fd00::A", want: "fd00::1-fd00::a"},
		{text: "192.168.10.20-192.168.10.5", wantErr: `"192.168.10.20-192.168.10.5" ends before it begins: write 192.168.10.5-192.168.10.20`},
		{text: "192.168.10.5-fd00::1", wantErr: "begins in one address family and ends in the other"},
		{text: "192.168.10.5/24", wantErr: "write 192.168.10.5 for the one address, or 192.168.10.0/24 for the whole network"},
		{text: "192.168.010.0/24", wantErr: "is not a range of addresses"},
		{text: "192.168.10.1-192.168.10.02", wantErr: "is not a range of addresses"},
		{text: "192.168.10.240-250", wantErr: "is not a range of addresses"},
		{text: "::ffff:10.0.0.0/120", wantErr: "is not a range of addresses"},
		{text: "fe80::1%eth0", wantErr: "is not a range of addresses"},
		{text: "10.0.0.0/33", wantErr: "is not a range of addresses"},
		{text: "", wantErr: "is not a range of addresses"},
		{text: "-", wantErr: "is not a range of addresses"},
	} {
		got, err := config.ParseRange(test.text)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%q: error %v, want %q", test.text, err, test.wantErr)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got.String()); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", test.text, err, diff)
		}
	}
}

// FuzzParseRange asserts that whatever is accepted is a range of one family, and that what it says is read as itself.
func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"10.0.0.0/8", "10.0.0.1-10.0.0.9", "fd00::/64", "fd00::1-fd00::2", "1.2.3.4", "a-b", "1.2.3.4-::1", "10.0.0.1/8"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := config.ParseRange(text)
		if err != nil {
			return
		}
		if !r.IsValid() || r.From().Is4() != r.To().Is4() || r.To().Less(r.From()) || r.From().Is4In6() || r.From().Zone() != "" {
			t.Fatalf("%q is read as %s", text, r)
		}
		again, err := config.ParseRange(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is read as %s, and that as %s: %v", text, r, again, err)
		}
	})
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]netip.Prefix{
		"10.0.0.1":     netip.MustParsePrefix("10.0.0.1/32"),
		"10.0.0.1/8":   netip.MustParsePrefix("10.0.0.0/8"),
		"fd00::1":      netip.MustParsePrefix("fd00::1/128"),
		"fd00::/64":    netip.MustParsePrefix("fd00::/64"),
		"node1":        {},
		"10.0.0.1-2":   {},
		"10.0.0.0/024": {},
	} {
		if got, err := config.ParsePrefix(text); got != want || (err == nil) != want.IsValid() {
			t.Errorf("%q is read as %s, %v; want %s", text, got, err, want)
		}
	}
}
