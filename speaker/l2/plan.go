package l2

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/speaker/links"
)

// pair is one wish, spread out: one address on one link.
type pair struct {
	addr    netip.Addr
	name    string     // of the link
	link    links.Link // as it is; the zero Link if problem is not empty
	until   time.Time
	round   uint64
	problem string
}

// plan spreads the wishes over the links as they are, sorted by address and link, each
// pair once. An address wished twice is answered on the links of both, without a handover
// if one of them wishes none.
func plan(want []Announcement, ls []links.Link) []pair {
	byName := map[string]links.Link{}
	for _, l := range ls {
		byName[l.Name] = l
	}
	var pairs []pair
	for _, a := range want {
		names := a.Links
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			p := pair{addr: a.Address.Unmap(), name: name, until: a.Until, round: a.Round}
			if p.problem = problem(p, byName); p.problem == "" {
				p.link = byName[name]
			}
			pairs = append(pairs, p)
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.name, b.name),
			a.until.Compare(b.until), cmp.Compare(b.round, a.round))
	})
	return slices.CompactFunc(pairs, func(a, b pair) bool { return a.addr == b.addr && a.name == b.name })
}

func problem(p pair, byName map[string]links.Link) string {
	if !p.addr.IsValid() || p.addr.IsUnspecified() || p.addr.IsMulticast() || p.addr.Zone() != "" {
		return "is no address of a host"
	}
	if p.name == "" {
		return "no link is wished for it"
	}
	l, ok := byName[p.name]
	if !ok {
		return "there is no link " + p.name
	}
	if why := l.Unusable(); why != "" {
		return p.name + " " + why
	}
	return ""
}

// earKey names an ear: a link that was deleted and made again is another.
type earKey struct {
	index int
	v4    bool
}

func (p pair) ear() earKey { return earKey{p.link.Index, p.addr.Is4()} }
