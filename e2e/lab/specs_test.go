package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const report = `[{"SpecialSuiteFailureReasons": [], "SpecReports": [
	{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
	{"LeafNodeType": "ReportAfterSuite", "LeafNodeText": "write", "State": "failed", "Failure": {"Message": "disk full"}},
	{"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should work", "State": "passed"},
	{"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should fail", "State": "failed", "Failure": {"Message": "timed out"}},
	{"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should skip", "State": "skipped", "Failure": {"Message": "no cloud"}},
	{"ContainerHierarchyTexts": ["[sig-network] Netpol"], "LeafNodeType": "It", "LeafNodeText": "should deny", "State": "skipped", "Failure": {"Message": ""}}
]}]`

func TestParseReport(t *testing.T) {
	got, err := parseReport([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	want := []result{
		{"ReportAfterSuite write", "failed", "disk full"},
		{"[sig-network] Netpol should deny", leftOut, ""},
		{"[sig-network] Services should fail", "failed", "timed out"},
		{"[sig-network] Services should skip", "skipped", "no cloud"},
		{"[sig-network] Services should work", "passed", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parseReport([]byte("{")); err == nil {
		t.Error("half a report is accepted")
	}
}

func TestSummarise(t *testing.T) {
	known := []exception{{Spec: "Netpol", Reason: "of the plugin"}, {Spec: "SCTP", Reason: "no sockets"}}
	tests := map[string]struct {
		all  []result
		want verdict
		err  string
	}{
		"nothing ran": {all: []result{{Spec: "[sig-network] a", State: leftOut}}, err: "no spec passed"},
		"all passed, one in another part": {
			all: []result{
				{Spec: "[sig-network] a", State: "passed"}, {Spec: "[sig-network] b", State: leftOut},
				{Spec: "[sig-network] a", State: leftOut}, {Spec: "[sig-network] b", State: "passed"},
			},
			want: verdict{Passed: 2},
		},
		"an exception left out, in both parts": {
			all: []result{
				{Spec: "[sig-network] Netpol", State: leftOut}, {Spec: "[sig-network] a", State: "passed"},
				{Spec: "[sig-network] Netpol", State: leftOut}, {Spec: "[sig-storage] SCTP", State: leftOut},
			},
			want: verdict{Passed: 1, LeftOut: []string{"1: of the plugin"}},
		},
		"exceptions that ran": {
			all: []result{{Spec: "[sig-network] Netpol", State: "failed"}, {Spec: "[sig-network] SCTP", State: "passed"}},
			want: verdict{
				Passed: 1, Excepted: []result{{Spec: "[sig-network] Netpol", State: "failed"}},
				Cured: []result{{Spec: "[sig-network] SCTP", State: "passed"}},
			},
		},
		"a failure of any kind": {
			all:  []result{{Spec: "[sig-network] a", State: "passed"}, {Spec: "[sig-network] b", State: "timedout"}},
			want: verdict{Passed: 1, Failed: []result{{Spec: "[sig-network] b", State: "timedout"}}},
			err:  "1 specs failed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := summarise(test.all, known)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			err := got.err()
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("err: %v, want %q", err, test.err)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	const output = `Running Suite
------------------------------
• [12.425 seconds]
[sig-network] Services should work [sig-network]
k8s.io/kubernetes/test/e2e/network/service.go:1
  STEP: creating a pod
------------------------------
• [FAILED] [30.1 seconds]
[sig-network] Services should fail [sig-network]
------------------------------
S [SKIPPED] [0.5 seconds]
[sig-network] Services should skip [sig-network]
[SynchronizedBeforeSuite] PASSED [0.077 seconds]
[SynchronizedBeforeSuite]
`
	var got []string
	follow(strings.NewReader(output), func(line string) { got = append(got, line) })
	want := []string{
		"passed  [sig-network] Services should work (12.425 s)",
		"failed  [sig-network] Services should fail (30.1 s)",
		"skipped  [sig-network] Services should skip (0.5 s)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExceptionsAreExplained checks that users can read of every exception.
func TestExceptionsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exceptions() {
		if _, err := regexp.Compile(e.Spec); err != nil {
			t.Errorf("exception %q: %v", e.Spec, err)
		}
		lines := strings.Split(string(page), "\n")
		if e.Reason == "" || !slices.ContainsFunc(lines, func(line string) bool {
			return strings.HasPrefix(line, "| `"+strings.ReplaceAll(e.Spec, "|", `\|`)+"` |")
		}) {
			t.Errorf("docs/conformance.md has no row for the exception `%s`", e.Spec)
		}
	}
}

func TestDebianPaths(t *testing.T) {
	for name, want := range map[string]string{
		"./bin/bash": "/usr/bin/bash", "./lib64/ld.so": "/usr/lib64/ld.so", "./usr/bin/curl": "/usr/bin/curl", "./etc/bash.bashrc": "/etc/bash.bashrc", "./": "/",
	} {
		if got := merged(name); got != want {
			t.Errorf("merged(%q): %q, want %q", name, got, want)
		}
	}
}
