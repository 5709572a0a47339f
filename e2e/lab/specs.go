package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// A result is how one spec ended.
type result struct {
	Spec    string // its full name
	State   string // passed, failed, skipped, or how else ginkgo calls it
	Message string // why it failed or was skipped
}

// readReport reads ginkgo's report. Specs that the filters left out are not in the result.
func readReport(file string) ([]result, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the suite's report: %w", err)
	}
	return parseReport(text)
}

func parseReport(text []byte) ([]result, error) {
	var suites []struct {
		SpecialSuiteFailureReasons []string
		SpecReports                []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			Failure                 struct{ Message string }
		}
	}
	if err := json.Unmarshal(text, &suites); err != nil {
		return nil, fmt.Errorf("read the suite's report: %w", err)
	}
	var all []result
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			r := result{
				Spec:    strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "),
				State:   s.State,
				Message: s.Failure.Message,
			}
			// What a filter left out has no message; what prepares and ends the suite counts only if it fails.
			left := s.State == "pending" || s.State == "skipped" && r.Message == ""
			if left || s.LeafNodeType != "It" && s.State == "passed" {
				continue
			}
			if s.LeafNodeType != "It" {
				r.Spec = s.LeafNodeType + " " + r.Spec
			}
			all = append(all, r)
		}
		for _, why := range suite.SpecialSuiteFailureReasons {
			if why != "" && len(suite.SpecReports) == 0 {
				return nil, fmt.Errorf("the suite did not run: %s", why)
			}
		}
	}
	slices.SortFunc(all, func(a, b result) int { return strings.Compare(a.Spec, b.Spec) })
	return all, nil
}

// A verdict is what the results of all specs mean together.
type verdict struct {
	Passed   int
	Skipped  []result // by themselves
	Failed   []result
	Excepted []result // failed, as it is known
	Cured    []result // passed, although they are in the list of exceptions
}

func summarise(all []result, known []exception) verdict {
	var v verdict
	for _, r := range all {
		excepted := slices.ContainsFunc(known, func(e exception) bool { return e.matches(r.Spec) })
		switch {
		case r.State == "passed" && excepted:
			v.Passed++
			v.Cured = append(v.Cured, r)
		case r.State == "passed":
			v.Passed++
		case r.State == "skipped":
			v.Skipped = append(v.Skipped, r)
		case excepted:
			v.Excepted = append(v.Excepted, r)
		default:
			v.Failed = append(v.Failed, r)
		}
	}
	return v
}

// err is nil if no spec failed but those in the list of exceptions, and at least one passed.
func (v verdict) err() error {
	switch {
	case len(v.Failed) > 0:
		return fmt.Errorf("%d specs failed", len(v.Failed))
	case v.Passed == 0:
		return fmt.Errorf("no spec passed: does --focus match any?")
	}
	return nil
}

func (v verdict) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d passed, %d failed, %d failed as excepted, %d skipped themselves\n", v.Passed, len(v.Failed), len(v.Excepted), len(v.Skipped))
	for _, group := range []struct {
		title string
		all   []result
	}{
		{"Skipped themselves", v.Skipped},
		{"Passed although excepted", v.Cured},
		{"Failed as excepted", v.Excepted},
		{"FAILED", v.Failed},
	} {
		if len(group.all) == 0 {
			continue
		}
		fmt.Fprintf(&out, "\n%s:\n", group.title)
		for _, r := range group.all {
			fmt.Fprintf(&out, "  %s\n", r.Spec)
			if r.Message != "" {
				fmt.Fprintf(&out, "      %s\n", firstLines(r.Message, 3))
			}
		}
	}
	return out.String()
}

// firstLines is the beginning of a text, indented like its first line.
func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n      ")
}

// An exception is a set of specs that cannot pass, and why that is no fault of Fairlead's. docs/conformance.md tells each at
// more length.
type exception struct {
	Spec   string // regular expression for the full name
	Reason string
	Never  bool // the lab must not even try
}

func (e exception) matches(spec string) bool { return regexp.MustCompile(e.Spec).MatchString(spec) }
