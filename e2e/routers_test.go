package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/docs/routers"
)

// path is a way to a prefix as a router has learnt it, in words that FRR and BIRD share.
type path struct {
	Via         string // a node
	ASPath      string
	LocalPref   uint32 // of internal sessions; 0 else
	MED         uint32
	Communities string // as numbers, sorted
	Large       string
}

// router is one of the lab's routers.
type router struct {
	host      string
	address   string // on the LAN
	asn       uint32
	manual    string // the configuration it has but for the tests
	configure func(t *testing.T, asn uint32, file string)
	paths     func(ctx context.Context, prefix netip.Prefix) ([]path, error)
}

var (
	frr = router{
		host: "router", address: "172.30.0.1", asn: 64513, manual: routers.FRR,
		configure: configureFRR, paths: frrPaths,
	}
	bird = router{
		host: "router2", address: "172.30.0.2", asn: 64514, manual: routers.BIRD,
		configure: configureBIRD, paths: birdPaths,
	}
)

// with gives the router the manual's configuration with changes, old and new text in turns,
// until the test ends.
func (r router) with(t *testing.T, asn uint32, changes ...string) {
	t.Helper()
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(r.manual, changes[i]) {
			t.Fatalf("the configuration of %s has no %q", r.host, changes[i])
		}
	}
	file := filepath.Join(t.TempDir(), "router.conf")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(changes...).Replace(r.manual)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o755); err != nil { // BIRD and FRR are not root
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "router.conf")
	if err := os.WriteFile(back, []byte(r.manual), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.configure(t, asn, back) })
	r.configure(t, r.asn, file)
}

// configureFRR takes away the BGP instance of an AS and loads a file.
func configureFRR(t *testing.T, asn uint32, file string) {
	t.Helper()
	for _, args := range [][]string{
		{"-c", "configure terminal", "-c", fmt.Sprintf("no router bgp %d", asn)},
		{"-f", file},
	} {
		out, err := tryLab(context.WithoutCancel(t.Context()), append([]string{"exec", "router", "--", "vtysh"}, args...)...)
		if err != nil {
			t.Errorf("configure FRR: %v\n%s", err, out)
		}
	}
}

func configureBIRD(t *testing.T, _ uint32, file string) {
	t.Helper()
	out, err := tryLab(context.WithoutCancel(t.Context()), "exec", "router2", "--", "birdc", `configure "`+file+`"`)
	if err != nil || !strings.Contains(out, "econfigur") {
		t.Errorf("configure BIRD: %v\n%s", err, out)
	}
}

// frrPaths reads FRR's table.
func frrPaths(ctx context.Context, prefix netip.Prefix) ([]path, error) {
	family := map[bool]string{true: "ipv4", false: "ipv6"}[prefix.Addr().Is4()]
	out, err := tryLab(ctx, "exec", "router", "--", "vtysh", "-c", fmt.Sprintf("show bgp %s unicast %s json", family, prefix))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var table struct {
		Paths []struct {
			Valid     bool
			LocalPref uint32 `json:"locPrf"`
			Metric    uint32
			ASPath    struct{ String string }
			Community struct{ String string }
			Large     struct{ String string } `json:"largeCommunity"`
			NextHops  []struct{ IP, Scope string }
		}
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var found []path
	for _, p := range table.Paths {
		if !p.Valid {
			continue
		}
		via := ""
		for _, hop := range p.NextHops {
			if via == "" || hop.Scope == "global" {
				via = nodeOf(hop.IP)
			}
		}
		found = append(found, path{
			Via: via, ASPath: strings.TrimPrefix(p.ASPath.String, "Local"), LocalPref: p.LocalPref, MED: p.Metric,
			Communities: communities(p.Community.String), Large: p.Large.String,
		})
	}
	return sortedPaths(found), nil
}

// birdAttribute is a line of "show route all".
var birdAttribute = regexp.MustCompile(`^\tBGP\.([a-z_]+): (.*)$`)

// birdPaths reads BIRD's table.
func birdPaths(ctx context.Context, prefix netip.Prefix) ([]path, error) {
	out, err := tryLab(ctx, "exec", "router2", "--", "birdc", "show", "route", "for", prefix.String(), "all")
	if err != nil && !strings.Contains(out, "not found") {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var found []path
	for line := range strings.Lines(out) {
		if strings.Contains(line, "unicast [") && strings.Contains(line, "[") {
			if first, _, _ := strings.Cut(line, " "); first != "" && first != prefix.String() {
				break // a longer or shorter prefix
			}
			found = append(found, path{})
			continue
		}
		match := birdAttribute.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if match == nil || len(found) == 0 {
			continue
		}
		found[len(found)-1].set(match[1], match[2])
	}
	return sortedPaths(found), nil
}

// set takes one of BIRD's attributes.
func (p *path) set(name, value string) {
	number := func() uint32 {
		n, _ := strconv.ParseUint(value, 10, 32) // what is no number will not be as expected
		return uint32(n)
	}
	pairs := strings.NewReplacer("(", "", ")", "", ", ", ":", ",", ":")
	switch name {
	case "next_hop":
		p.Via = nodeOf(strings.Fields(strings.TrimPrefix(value, ":: "))[0]) // ":: fe80::1" is link-local alone
	case "as_path":
		p.ASPath = value
	case "med":
		p.MED = number()
	case "local_pref":
		p.LocalPref = number()
	case "community":
		p.Communities = communities(pairs.Replace(value))
	case "large_community":
		p.Large = pairs.Replace(value)
	}
}

// communities writes communities as numbers, sorted.
func communities(text string) string {
	names := map[string]string{"no-export": "65535:65281", "graceful-shutdown": "65535:0"}
	found := strings.Fields(text)
	for i, c := range found {
		if number, named := names[c]; named {
			found[i] = number
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// nodeOf names the node that has an address of the LAN; the address if none has.
func nodeOf(address string) string {
	for _, node := range []string{"node1", "node2", "node3"} {
		last := "1" + strings.TrimPrefix(node, "node")
		if address == "172.30.0."+last || address == "fd30::"+last {
			return node
		}
	}
	return address
}

func sortedPaths(all []path) []path {
	slices.SortFunc(all, func(a, b path) int { return strings.Compare(a.Via, b.Via) })
	return all
}

// kernelHops are the nodes that a router's kernel spreads the connections to an address over, sorted.
func kernelHops(ctx context.Context, host string, addr netip.Addr) ([]string, error) {
	family := map[bool]string{true: "-4", false: "-6"}[addr.Is4()]
	out, err := tryLab(ctx, "exec", host, "--", "ip", family, "route", "show", addr.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var hops []string
	for _, match := range regexp.MustCompile(`via (?:inet6 )?(\S+)`).FindAllStringSubmatch(out, -1) {
		hops = append(hops, nodeOf(match[1]))
	}
	slices.Sort(hops)
	return slices.Compact(hops), nil
}
