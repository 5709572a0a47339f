package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// A speaker that starts without the API server knows what the last one knew.
func TestMemoryOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	want := Snapshot{
		Address: netip.MustParseAddr("172.30.0.11"),
		Peers:   []netip.Addr{netip.MustParseAddr("172.30.0.12")},
		Pools: []v1beta1.IPAddressPool{{
			ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.168.10.0/24"}},
		}},
		Nodes: []Node{{Name: "node1", Labels: labels.Set{"rack": "a"}, Reluctant: "the node is cordoned"}},
		Services: []Service{{
			Key: "default/web", Labels: labels.Set{}, Addresses: []netip.Addr{address}, Local: true, EndpointsOn: map[string]bool{"node1": true},
		}},
	}
	first := openMemory(log, "node1", dir)
	if _, err := first.snapshot(t.Context()); !errors.Is(err, errNoState) {
		t.Errorf("with nothing on disk: %v, want %v", err, errNoState)
	}
	live := func(context.Context) (Snapshot, error) { return want, nil }
	first.live.Store(&live)
	if _, err := first.snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := openMemory(log, "node1", dir).snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the snapshot of the next process (-want +got):\n%s", diff)
	}
}

// A file that is cut short, or of another version, is no reason not to start.
func TestMemoryMindsNoBadFile(t *testing.T) {
	for name, text := range map[string]string{
		"cut short": `{"Version":1,"Snapsh`, "another version": `{"Version":99,"Node":"node1","Snapshot":{}}`, "another node": `{"Version":1,"Node":"node2","Snapshot":{}}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "speaker.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openMemory(slog.New(slog.DiscardHandler), "node1", dir).snapshot(t.Context()); !errors.Is(err, errNoState) {
				t.Errorf("snapshot: %v, want %v", err, errNoState)
			}
		})
	}
}
