package config

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is something wrong in an object, for a person to read. It is never a Go error: it stops nothing but the part
// it is about.
type Problem struct {
	Object  string // kind/name or kind/namespace/name, lower case: "ipaddresspool/lan"
	Reason  string // one of the Reason constants of api/v1beta1
	Message string // one sentence: what is wrong, and how to write it
}

// String returns "object: message".
func (p Problem) String() string { return p.Object + ": " + p.Message }

// SortProblems sorts problems in place by object, reason and message.
func SortProblems(problems []Problem) {
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Message, b.Message))
	})
}
