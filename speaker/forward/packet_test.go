package forward

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/speaker/nft"
)

var twin = regexp.MustCompile(`\b(10\.244|10\.96|172\.30|203\.0|192\.0)\.\d+\.\d+\b`)

// TestPackets sends real packets for each scenario that has a section
// "packets", in both families, or "packets as written". The lines are
//
//	FROM PROTOCOL ADDRESS:PORT = ENDPOINT... kept|masqueraded
//	FROM PROTOCOL ADDRESS:PORT = refused|dropped
//
// FROM is client, node, pod, or endpoint (10.244.1.1 itself); kept and
// masqueraded say whether the endpoint sees who asked.
func TestPackets(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	for _, a := range hereAddrs {
		l.hear(l.here, a, 53)
	}
	for _, a := range farAddrs {
		l.hear(l.far, a, 53)
	}
	l.serve(l.node) // for endpoints in the node's own network
	table := l.table(nil)
	families := map[string]func(string) string{"ip": func(s string) string { return s }, "ip6": sixth}
	for _, file := range files {
		arc, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for family, turn := range families {
			t.Run(name+"/"+family, func(t *testing.T) {
				l := *l
				l.t = t
				l.probeAll(table, arc, section(arc, "packets"), turn)
			})
		}
		t.Run(name+"/as written", func(t *testing.T) {
			l := *l
			l.t = t
			l.probeAll(table, arc, section(arc, "packets as written"), families["ip"])
		})
	}
}

// probeAll programs a scenario and sends its packets, if there are any.
func (l *lab) probeAll(table *nft.Table, arc *txtar.Archive, probes string, turn func(string) string) {
	l.t.Helper()
	if probes == "" {
		return
	}
	l.load(table, arc, turn)
	for line := range strings.Lines(probes) {
		l.probe(strings.TrimSpace(line), turn)
	}
}

// load programs all Services of a scenario and nothing else.
func (l *lab) load(table *nft.Table, arc *txtar.Archive, turn func(string) string) {
	l.t.Helper()
	how := nft.Random
	if strings.TrimSpace(section(arc, "pick")) == "hash" {
		how = nft.Hash
	}
	services, slices := objects(l.t.(*testing.T), turn(section(arc, "in.yaml")))
	all := map[string]nft.Service{}
	for _, svc := range services {
		all[svc.Namespace+"/"+svc.Name] = Service(svc, slices, node(arc), how).Wish
	}
	if _, err := table.Apply(context.Background(), nft.Wish{Static: l.staticOf(arc), Changed: all, Full: true}); err != nil {
		l.t.Fatal(err)
	}
}

// staticOf is what the rules know of the node, as a scenario has it.
func (l *lab) staticOf(arc *txtar.Archive) nft.Static {
	s := l.static()
	s.MasqueradeAll = hasLine(arc, "masquerade all")
	if hasLine(arc, "no pods") {
		s.PodCIDRs = nil
	}
	for line := range strings.Lines(section(arc, "node")) {
		if addrs, ok := strings.CutPrefix(strings.TrimSpace(line), "node ports"); ok {
			s.NodePortAddresses = nil
			for _, a := range strings.Fields(addrs) {
				s.NodePortAddresses = append(s.NodePortAddresses, both(a)...)
			}
		}
	}
	return s
}

// tries is how often a frontend with several endpoints is asked before one that never
// answered counts as missing: with three of them that is one in 10^8.
const tries = 48

func (l *lab) probe(line string, turn func(string) string) {
	l.t.Helper()
	if line == "" || strings.HasPrefix(line, "#") {
		return
	}
	question, want, ok := strings.Cut(line, " = ")
	words := strings.Fields(question)
	if !ok || len(words) != 3 {
		l.t.Fatalf("bad probe %q", line)
	}
	from, proto, to := words[0], words[1], target(words[2], turn)
	expect := strings.Fields(want)
	for i, e := range expect {
		if strings.Contains(e, ":") {
			expect[i] = target(e, turn)
		}
	}
	if strings.HasPrefix(words[2], "[") {
		turn = sixth // the one who asks has addresses of both families
	}
	got := l.gather(from, proto, to, len(expect)-1, slices.Contains(expect, "dropped"), turn)
	slices.Sort(expect)
	if !slices.Equal(got, expect) {
		l.t.Errorf("%s: got %v", line, got)
	}
}

// target turns an "address:port".
func target(s string, turn func(string) string) string {
	addr, port, _ := strings.Cut(s, ":")
	if a := turn(addr); a != addr {
		return fmt.Sprintf("[%s]:%s", a, port)
	}
	return s
}

// gather asks until as many endpoints answered as are expected, and then some
// more, and says all that was seen.
func (l *lab) gather(from, proto, to string, expected int, dropped bool, turn func(string) string) []string {
	l.t.Helper()
	ns, self := l.source(from)
	local, _ := netip.ParseAddr(turn(self))
	limit := longPatience
	if dropped {
		limit = patience
	}
	seen := map[string]bool{}
	l.in(ns, func() error {
		for i := range tries {
			if i >= 6 && len(seen) > expected {
				break
			}
			if seen["refused"] || seen["dropped"] {
				break
			}
			out := once(limit, proto, local, to)
			switch {
			case out.failure != "":
				seen[out.failure] = true
				continue
			case out.seen == turn(self):
				seen["kept"] = true
			case slices.Contains([]string{turn(nodeAddr), turn(nodeSecond), turn(gateway1)}, out.seen):
				seen["masqueraded"] = true
			default:
				seen["from-"+out.seen] = true
			}
			seen[out.endpoint] = true
		}
		return nil
	})
	var got []string
	for s := range seen {
		got = append(got, s)
	}
	slices.Sort(got)
	return got
}

func once(limit time.Duration, proto string, from netip.Addr, to string) outcome {
	if proto == "udp" {
		return askOnce(limit, from, to)
	}
	return dialOnce(limit, from, to)
}

func (l *lab) source(name string) (netns.NsHandle, string) {
	l.t.Helper()
	switch name {
	case "client":
		return l.client, clientAddr
	case "node":
		return l.node, "nobody"
	case "pod":
		return l.pod, podAddr
	case "endpoint":
		return l.here, hereAddrs[0]
	}
	l.t.Fatalf("unknown source %q", name)
	return netns.None(), ""
}
