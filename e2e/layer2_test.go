package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// owners returns the nodes that answer for an address on the LAN of a host, as that host hears them.
func owners(ctx context.Context, host string, addr netip.Addr) ([]string, error) {
	out, err := tryLab(ctx, "whohas", host, addr.String())
	if err != nil {
		return nil, fmt.Errorf("whohas: %w: %s", err, out)
	}
	var found []string
	for line := range strings.Lines(out) {
		found = append(found, strings.Fields(line)[1])
	}
	return found, nil
}

// oneOwner waits until exactly one node answers and returns how long that took.
func oneOwner(t *testing.T, host string, addr netip.Addr) (string, time.Duration) {
	t.Helper()
	began := time.Now()
	var owner string
	eventually(t, 20*time.Second, fmt.Sprintf("one node answers %s for %s", host, addr), func(ctx context.Context) error {
		found, err := owners(ctx, host, addr)
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%v answer", found)
		}
		owner = found[0]
		return nil
	})
	return owner, time.Since(began)
}

// mend puts every node's cable back and waits until all speakers know each other.
func mend(t *testing.T) {
	for _, node := range []string{"node1", "node2", "node3"} {
		if out, err := tryLab(context.WithoutCancel(t.Context()), "link", node, "up"); err != nil {
			t.Errorf("mend the link of %s: %v %s", node, err, out)
		}
	}
}

// The LAN falls into two halves: each half answers for the addresses, for it
// cannot know of the other. Once it is whole again, one node answers.
func TestPartitionAndHealing(t *testing.T) {
	settled(t)
	t.Cleanup(func() { mend(t) })
	for round, apart := range [][]string{{"node1"}, {"node2", "node3"}, {"node3", "node1"}} {
		for _, node := range apart {
			lab(t, "link", node, "apart")
		}
		for _, addr := range webAddresses(t) {
			owner, took := oneOwner(t, "client", addr)
			t.Logf("round %d: %v apart: %s answers the client for %s after %.1f s", round, apart, owner, addr, took.Seconds())
			for _, node := range apart {
				if owner == node {
					t.Errorf("%s is apart and answers the client", node)
				}
			}
		}
		mend(t)
		healed := time.Now()
		settled(t)
		for _, addr := range webAddresses(t) {
			owner, _ := oneOwner(t, "client", addr)
			t.Logf("round %d: %s alone answers for %s %.1f s after the healing", round, owner, addr, time.Since(healed).Seconds())
			eventually(t, 10*time.Second, "the address answers", func(ctx context.Context) error {
				_, err := fetch(ctx, "client", url(addr, "/hostname"))
				return err
			})
		}
	}
}

// A link that flaps leaves one owner behind, and an address that answers.
func TestFlappingLink(t *testing.T) {
	settled(t)
	t.Cleanup(func() { mend(t) })
	addr := webAddresses(t)[0]
	owner, _ := oneOwner(t, "client", addr)
	for range 20 {
		lab(t, "link", owner, "down")
		lab(t, "link", owner, "up")
	}
	now, took := oneOwner(t, "client", addr)
	t.Logf("%s owned %s; %s does after 20 flaps, alone after %.1f s", owner, addr, now, took.Seconds())
	settled(t)
	if _, err := fetch(t.Context(), "client", url(addr, "/hostname")); err != nil {
		t.Error(err)
	}
}

// All speakers restart at once: the address answers again, from one node.
func TestAllSpeakersRestart(t *testing.T) {
	settled(t)
	lab(t, "kubectl", "delete", "pods", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=speaker", "--wait=false")
	for _, addr := range webAddresses(t) {
		eventually(t, time.Minute, "the address answers", func(ctx context.Context) error {
			found, err := owners(ctx, "client", addr)
			if err == nil && len(found) != 1 {
				err = fmt.Errorf("%v answer", found)
			}
			_, fetchErr := fetch(ctx, "client", url(addr, "/hostname"))
			return errors.Join(err, fetchErr)
		})
	}
	lab(t, "kubectl", "rollout", "status", "-n", "fairlead-system", "daemonset/fairlead-speaker", "--timeout=60s")
	settled(t)
	for _, addr := range webAddresses(t) {
		oneOwner(t, "client", addr)
	}
}

// signalOn sends a signal to the processes of a host that run a binary: STOP, CONT or KILL.
func signalOn(t *testing.T, host, binary, signal string) {
	t.Helper()
	// The hosts share their process numbers with the machine, so a process is told by its network, too.
	script := fmt.Sprintf(`for p in /proc/[0-9]*; do
		[ "$(basename "$(readlink $p/exe)" 2>/dev/null)" = %s ] || continue
		[ "$(readlink $p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && kill -%s "${p#/proc/}"
	done; true`, binary, signal)
	if out, err := tryLab(context.WithoutCancel(t.Context()), "exec", host, "--", "sh", "-c", script); err != nil {
		t.Fatalf("signal %s on %s: %v %s", binary, host, err, out)
	}
}

// While there is no API server nothing moves, a node that dies is stood in for,
// and a speaker that restarts knows what it knew.
func TestAPIServerOutage(t *testing.T) {
	settled(t)
	addrs := webAddresses(t)
	before, _ := oneOwner(t, "client", addrs[0])
	signalOn(t, "control", "kube-apiserver", "STOP")
	running := false
	start := func() {
		if !running {
			signalOn(t, "control", "kube-apiserver", "CONT")
		}
		running = true
	}
	t.Cleanup(func() { start(); mend(t) })
	if now, _ := oneOwner(t, "client", addrs[0]); now != before {
		t.Errorf("%s moved from %s to %s because the API server stopped", addrs[0], before, now)
	}
	lab(t, "link", before, "silent")
	heir := before
	for _, addr := range addrs {
		cut := time.Now()
		eventually(t, 20*time.Second, "another node answers", func(ctx context.Context) error {
			found, err := owners(ctx, "client", addr)
			if err == nil && (len(found) != 1 || found[0] == before) {
				err = fmt.Errorf("%v answer", found)
			}
			if err == nil {
				heir = found[0]
				_, err = fetch(ctx, "client", url(addr, "/hostname"))
			}
			return err
		})
		t.Logf("without the API server, %s stands in for %s %.1f s after it was asked", heir, before, time.Since(cut).Seconds())
	}
	signalOn(t, heir, "speaker", "KILL")
	for _, addr := range addrs {
		eventually(t, 30*time.Second, "the address answers although the speaker restarts without the API server", func(ctx context.Context) error {
			found, err := owners(ctx, "client", addr)
			if err == nil && len(found) != 1 {
				err = fmt.Errorf("%v answer", found)
			}
			if err == nil {
				_, err = fetch(ctx, "client", url(addr, "/hostname"))
			}
			return err
		})
	}
	start()
	mend(t)
	eventually(t, time.Minute, "the API server is back", func(ctx context.Context) error {
		_, err := service(ctx, "web")
		return err
	})
	settled(t)
	for _, addr := range addrs {
		oneOwner(t, "client", addr)
	}
}
