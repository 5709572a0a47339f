package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// community is a standard or a large community.
type community struct {
	standard uint32
	large    LargeCommunity
	isLarge  bool
}

// wellKnown returns the communities that have a name for everybody (the registry of RFC 1997), in upper case or with
// underscores as well.
func wellKnown(name string) (community, bool) {
	const reserved = 65535 << 16
	low, ok := map[string]uint32{
		"graceful-shutdown":   0,
		"accept-own":          1,
		"llgr-stale":          6,
		"no-llgr":             7,
		"blackhole":           666,
		"no-export":           0xff01,
		"no-advertise":        0xff02,
		"local-as":            0xff03,
		"no-export-subconfed": 0xff03,
		"no-peer":             0xff04,
	}[strings.ReplaceAll(strings.ToLower(name), "_", "-")]
	return community{standard: reserved | low}, ok
}

// parseCommunity reads "64512:100" or "large:64512:1:2".
func parseCommunity(text string) (community, error) {
	numbers, isLarge := strings.CutPrefix(text, "large:")
	count, bits := 2, 16
	if isLarge {
		count, bits = 3, 32
	}
	parts := strings.Split(numbers, ":")
	var n [3]uint32
	for i, part := range parts {
		value, err := strconv.ParseUint(part, 10, bits)
		if err != nil || len(parts) != count {
			return community{}, fmt.Errorf("%q is not a community: write two numbers such as 64512:100, or large: and three numbers such as large:64512:1:2", text)
		}
		n[i] = uint32(value)
	}
	if isLarge {
		return community{large: LargeCommunity{n[0], n[1], n[2]}, isLarge: true}, nil
	}
	return community{standard: n[0]<<16 | n[1]}, nil
}

// readCommunities returns all aliases. Of two with one name that mean different communities, that of the first object by
// name counts.
func readCommunities(objects []v1beta1.Community) (map[string]community, []Problem) {
	aliases, owner := map[string]community{}, map[string]string{}
	var problems []Problem
	for _, object := range sortedByName(objects, func(c v1beta1.Community) string { return c.Name }) {
		name := "community/" + object.Name
		for _, alias := range object.Spec.Communities {
			value, err := parseCommunity(string(alias.Value))
			if err != nil {
				problems = append(problems, Problem{name, v1beta1.ReasonSettingInvalid, alias.Name + ": " + err.Error()})
				continue
			}
			if have, ok := aliases[alias.Name]; ok {
				if have != value {
					problems = append(problems, Problem{name, v1beta1.ReasonDuplicateCommunity, fmt.Sprintf("%s is another community in Community %s, whose name comes first: rename one of the two", alias.Name, owner[alias.Name])})
				}
				continue
			}
			aliases[alias.Name], owner[alias.Name] = value, object.Name
		}
	}
	return aliases, problems
}

// resolve turns what an advertisement writes into communities, sorted and without duplicates. A name that users gave
// comes before a well-known one.
func resolve(object string, texts []v1beta1.CommunityText, aliases map[string]community) ([]uint32, []LargeCommunity, []Problem) {
	var standard []uint32
	var large []LargeCommunity
	var problems []Problem
	for _, text := range texts {
		found, err := lookUp(string(text), aliases)
		switch {
		case err != nil:
			problems = append(problems, Problem{object, v1beta1.ReasonCommunityNotFound, err.Error()})
		case found.isLarge:
			large = append(large, found.large)
		default:
			standard = append(standard, found.standard)
		}
	}
	slices.Sort(standard)
	slices.SortFunc(large, CompareLarge)
	return slices.Compact(standard), slices.Compact(large), problems
}

func lookUp(text string, aliases map[string]community) (community, error) {
	if strings.Contains(text, ":") {
		return parseCommunity(text)
	}
	if found, ok := aliases[text]; ok {
		return found, nil
	}
	if found, ok := wellKnown(text); ok {
		return found, nil
	}
	return community{}, fmt.Errorf("no Community object gives a community the name %q, and it is not a well-known one: routes are announced without it", text)
}

// CompareLarge orders large communities by their numbers.
func CompareLarge(a, b LargeCommunity) int {
	return cmp.Or(cmp.Compare(a.Global, b.Global), cmp.Compare(a.Data1, b.Data1), cmp.Compare(a.Data2, b.Data2))
}
