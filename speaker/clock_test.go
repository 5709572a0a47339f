package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The wall clock of a node steps, forwards and back, and no address may move for it. Times
// that come from time.Now compare and subtract by the monotonic clock, unless they lose it
// on the way: by the methods listed here. Each place that uses one is here, with the reason why a
// step does no harm there.
func TestNothingWaitsForTheWallClock(t *testing.T) {
	harmless := []string{
		"bfd/sockopt.go Round",       // the kernel's stamp of a packet is wall time: an age below zero or absurd is ignored
		"bfd/sockopt.go Unix",        //
		"bgp/dial.go Truncate",       // a duration
		"bgp/routes.go Truncate",     // a duration
		"members/gossip.go UnixNano", // numbers a life; one that is too low is told and starts above: see book.learn
		"metrics.go UnixMilli",       // for people
		"report.go Truncate",         // for people
		"reportbgp.go Truncate",      // for people
	}
	loses := []string{"UTC", "Local", "In", "Round", "Truncate", "Unix", "UnixNano", "UnixMilli", "UnixMicro", "AddDate", "Date"}
	found := map[string]bool{}
	for _, room := range []string{".", "l2", "members", "links", "elect", "health", "bgp", "bfd", "nft"} {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no code in %s: %v", room, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, method := range calls(t, file) {
				if slices.Contains(loses, method) {
					found[fmt.Sprintf("%s %s", file, method)] = true
				}
			}
		}
	}
	var have []string
	for use := range found {
		have = append(have, use)
	}
	slices.Sort(have)
	if diff := cmp.Diff(harmless, have); diff != "" {
		t.Errorf("a time that loses the monotonic clock (-known +found):\n%s", diff)
	}
}

// calls lists the names of the methods and functions of packages that a file calls.
func calls(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				found = append(found, selector.Sel.Name)
			}
		}
		return true
	})
	return found
}
