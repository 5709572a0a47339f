package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// suiteArea begins the names of the specs that this is about.
const suiteArea = "[sig-network] "

// A result is how one spec ended.
type result struct {
	Spec    string // its full name
	State   string // passed, failed, skipped, or how else ginkgo calls it; leftOut if a filter kept it from running
	Message string // why it failed or was skipped
}

const leftOut = "left out"

// readReport reads ginkgo's report of one run, sorted by name.
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
			switch {
			case s.LeafNodeType != "It" && s.State == "passed": // what prepares and ends the suite
				continue
			case s.LeafNodeType != "It":
				r.Spec = strings.TrimSpace(s.LeafNodeType + " " + r.Spec)
			case s.State == "skipped" && r.Message == "":
				r.State = leftOut
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
	LeftOut  []string // the reasons of the exceptions that kept specs from running, each with their number
}

// summarise judges the results of all parts. What one part left out for another to run counts there.
func summarise(all []result, known []exception) verdict {
	var v verdict
	ran, left := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		if r.State == leftOut {
			left[r.Spec] = true
			continue
		}
		ran[r.Spec] = true
		v.add(r, slices.ContainsFunc(known, func(e exception) bool { return e.matches(r.Spec) }))
	}
	for _, e := range known {
		count := 0
		for spec := range left {
			if !ran[spec] && strings.HasPrefix(spec, suiteArea) && e.matches(spec) {
				count++
				delete(left, spec)
			}
		}
		if count > 0 {
			v.LeftOut = append(v.LeftOut, fmt.Sprintf("%d: %s", count, e.Reason))
		}
	}
	return v
}

func (v *verdict) add(r result, excepted bool) {
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

// err is nil if no spec failed but those in the list of exceptions, and at least one passed.
func (v verdict) err() error {
	switch {
	case len(v.Failed) > 0:
		return fmt.Errorf("%d specs failed", len(v.Failed))
	case v.Passed == 0:
		return errors.New("no spec passed: does --focus match any?")
	}
	return nil
}

func (v verdict) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d passed, %d failed, %d failed as excepted, %d skipped themselves\n", v.Passed, len(v.Failed), len(v.Excepted), len(v.Skipped))
	if len(v.LeftOut) > 0 {
		fmt.Fprintf(&out, "\nLeft out:\n  %s\n", strings.Join(v.LeftOut, "\n  "))
	}
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
