package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// String is the wish for people and tests, one line per frontend, target and address.
func (s Service) String() string {
	var b strings.Builder
	for _, f := range s.Frontends {
		fmt.Fprintf(&b, "%s -> %s\n", f.key(), s.describe(f))
	}
	for i, t := range s.Targets {
		fmt.Fprintf(&b, "target %d: %s\n", i, t)
	}
	if len(s.Addresses) > 0 {
		fmt.Fprintf(&b, "refuse other ports of %s\n", join(s.Addresses))
	}
	if len(s.Hairpin) > 0 {
		fmt.Fprintf(&b, "hairpin %s\n", join(s.Hairpin))
	}
	for _, v := range s.Serving {
		for _, i := range v.Frontends {
			fmt.Fprintf(&b, "connections to %s may stay at %s\n", s.Frontends[i].key(), orNobody(join(v.Endpoints)))
		}
	}
	return b.String()
}

func (s Service) describe(f Frontend) string {
	out := f.Kind.String()
	if f.Target != None {
		out += fmt.Sprintf(" target %d", f.Target)
	}
	if f.Kind == Local {
		out += ", from inside " + targetName(f.Short)
	}
	if f.Guarded {
		out += ", only from " + orNobody(join(f.Sources))
	}
	return out
}

func targetName(i int) string {
	if i == None {
		return "nowhere"
	}
	return fmt.Sprintf("target %d", i)
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

// String is the target's endpoints and how one is chosen.
func (t Target) String() string {
	out := join(t.Endpoints)
	if t.Pick == Hash {
		out += ", by hash"
	}
	if t.Affinity != 0 {
		out += fmt.Sprintf(", for %d s", t.Affinity)
	}
	return out
}

func (k Kind) String() string {
	return [...]string{"reject", "drop", "cluster", "external", "local"}[k]
}

func join[T netip.Addr | netip.AddrPort | netip.Prefix](all []T) string {
	words := make([]string, 0, len(all))
	for _, a := range all {
		words = append(words, fmt.Sprint(a))
	}
	return strings.Join(words, " ")
}
