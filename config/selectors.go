package config

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// Selectors are label selectors of which one is enough.
type Selectors []labels.Selector

// Match reports whether one of the selectors matches. Without selectors nothing matches.
func (s Selectors) Match(set labels.Set) bool {
	for _, selector := range s {
		if selector.Matches(set) {
			return true
		}
	}
	return false
}

// MatchOrEmpty reports whether there are no selectors or one of them matches.
func (s Selectors) MatchOrEmpty(set labels.Set) bool {
	return len(s) == 0 || s.Match(set)
}

// readSelectors parses the selectors of one field. One that cannot be understood matches nothing and is a problem, so
// that a typing mistake never opens a pool to everybody.
func readSelectors(object, field string, from []metav1.LabelSelector) (Selectors, []Problem) {
	var selectors Selectors
	var problems []Problem
	for i := range from {
		selector, err := metav1.LabelSelectorAsSelector(&from[i])
		if err != nil {
			selector = labels.Nothing()
			problems = append(problems, Problem{object, v1beta1.ReasonSelectorInvalid, fmt.Sprintf("%s[%d] matches nothing: %v", field, i, err)})
		}
		selectors = append(selectors, selector)
	}
	return selectors, problems
}
