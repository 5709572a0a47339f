package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// session reads what a node's speaker says of its session with a peer.
func session(ctx context.Context, node, peer string) (v1beta1.PeerSession, error) {
	var speaker v1beta1.Speaker
	if err := cluster.Get(ctx, client.ObjectKey{Name: node}, &speaker); err != nil {
		return v1beta1.PeerSession{}, err
	}
	i := slices.IndexFunc(speaker.Status.Peers, func(s v1beta1.PeerSession) bool { return s.Name == peer })
	if i < 0 {
		return v1beta1.PeerSession{}, fmt.Errorf("the Speaker %s has no peer %s", node, peer)
	}
	return speaker.Status.Peers[i], nil
}

// untilSession waits until a node's session is as wished.
func untilSession(t *testing.T, node, peer, what string, good func(v1beta1.PeerSession) bool) v1beta1.PeerSession {
	t.Helper()
	var last v1beta1.PeerSession
	eventually(t, 30*time.Second, fmt.Sprintf("the session of %s with %s is %s", node, peer, what), func(ctx context.Context) error {
		var err error
		if last, err = session(ctx, node, peer); err == nil && !good(last) {
			err = fmt.Errorf("it is %+v", last)
		}
		return err
	})
	return last
}

func isUp(s v1beta1.PeerSession) bool { return s.State == "Established" }

func isWatched(s v1beta1.PeerSession) bool { return isUp(s) && s.BFD == "Up" }

// routedEverywhere makes the Service with sessions of all nodes to both routers, and waits until all are up and watched.
func routedEverywhere(t *testing.T, change func(*v1beta1.BGPPeerSpec)) {
	t.Helper()
	routed(t)
	slow := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "slow"}} // for a machine that is busy with other tests
	slow.Spec.TransmitInterval, slow.Spec.ReceiveInterval = pointer(int32(1000)), pointer(int32(1000))
	create(t, newAdvertisement("routed"), &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "routers"}}, slow)
	var peers []*v1beta1.BGPPeer
	for _, r := range []router{frr, bird} {
		peer := newPeer(map[string]string{frr.host: "frr", bird.host: "bird"}[r.host], r)
		peer.Spec.BFDProfile, peer.Spec.EnableGracefulRestart = "slow", true
		change(&peer.Spec)
		create(t, peer)
		peers = append(peers, peer)
	}
	for _, node := range nodes {
		for _, peer := range peers {
			untilSession(t, node, peer.Name, "up and watched", func(s v1beta1.PeerSession) bool {
				return isUp(s) && (peer.Spec.BFDProfile == "" || isWatched(s))
			})
		}
	}
	everywhere(t)
}

// everywhere waits until both routers have plain paths over all nodes.
func everywhere(t *testing.T) {
	t.Helper()
	bgpCase{want: path{ASPath: ebgp}}.inTables(t)
}

// background runs a command of a host until the returned function is called, which returns what was printed.
func background(t *testing.T, host string, args ...string) func() string {
	t.Helper()
	cmd := exec.Command(labBinary, append([]string{"exec", host, "--"}, args...)...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = checkout, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop := func() string {
		if !ended {
			ended = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait() // it was killed
		}
		return out.String()
	}
	t.Cleanup(func() { stop() })
	return stop
}

// fetching fetches from remote, again and again, until the returned function is called, which returns how many fetches
// were made and what the failed ones said.
func fetching(t *testing.T, addr netip.Addr) func() (int, string) {
	t.Helper()
	stop := background(t, "remote", "sh", "-c", fmt.Sprintf(
		"while sleep 0.02; do curl -sS --fail --max-time 2 -o /dev/null %s 2>&1 && echo ok; done", url(addr, "/hostname")))
	return func() (int, string) {
		made, failed := 0, ""
		for line := range strings.Lines(stop()) {
			if made++; line != "ok\n" {
				failed += line
			}
		}
		return made, failed
	}
}

// A speaker that restarts loses no route at either router, watched by BFD, and no request.
func TestSpeakerRestartKeepsRoutes(t *testing.T) {
	routedEverywhere(t, func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "routers" })
	monitors := map[string]func() string{}
	for _, r := range []router{frr, bird} {
		monitors[r.host] = background(t, r.host, "ip", "monitor", "route")
	}
	requests := fetching(t, routed4)
	before := time.Now()
	lab(t, "kubectl", "delete", "pod", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=speaker",
		"--field-selector", "spec.nodeName=node2", "--wait=false")
	for _, peer := range []string{"frr", "bird"} {
		untilSession(t, "node2", peer, "up again", func(s v1beta1.PeerSession) bool {
			return isWatched(s) && s.Since != nil && s.Since.After(before.Truncate(time.Second))
		})
	}
	everywhere(t)
	made, failed := requests()
	if failed != "" || made < 10 {
		t.Errorf("of %d requests during the restart some failed:\n%s", made, failed)
	}
	for host, monitor := range monitors {
		for _, event := range lostHops(monitor()) {
			t.Errorf("the kernel of %s lost a way: %s", host, event)
		}
	}
	t.Logf("%d requests during the restart, none failed", made)
}

// lostHops returns the events of "ip monitor route" by which our routes lost a next hop. A router may
// write a route anew as it is.
func lostHops(text string) []string {
	var lost []string
	for event := range strings.SplitSeq(strings.ReplaceAll(text, "\n\t", "\t"), "\n") {
		ours := strings.Contains(event, routed4.String()+" ") || strings.Contains(event, routed6.String()+" ")
		if ours && (strings.HasPrefix(event, "Deleted") || strings.Count(event, "nexthop via") < len(nodes)) {
			lost = append(lost, event)
		}
	}
	return lost
}

// A node that is drained is avoided first and withdrawn then; it comes back when it may.
func TestDrainWithdrawsInTwoSteps(t *testing.T) {
	routedEverywhere(t, func(s *v1beta1.BGPPeerSpec) { s.DrainTime = &metav1.Duration{Duration: 4 * time.Second} })
	requests := fetching(t, routed4)
	cordon(t, "node1", true)
	t.Cleanup(func() { cordon(t, "node1", false) })
	for _, r := range []router{frr, bird} {
		eventually(t, 4*time.Second, r.host+" is asked to avoid node1", func(ctx context.Context) error {
			return expectCommunity(ctx, r, "node1", "65535:0")
		})
	}
	for _, r := range []router{frr, bird} {
		eventually(t, 20*time.Second, r.host+" has no route over node1", func(ctx context.Context) error {
			got, err := r.paths(ctx, netip.PrefixFrom(routed4, 32))
			if err == nil && (len(got) != 2 || got[0].Via == "node1") {
				err = fmt.Errorf("it has %v", got)
			}
			return err
		})
	}
	cordon(t, "node1", false)
	everywhere(t)
	made, failed := requests()
	if failed != "" || made < 10 {
		t.Errorf("of %d requests during the drain some failed:\n%s", made, failed)
	}
	if s, err := session(t.Context(), "node1", "frr"); err != nil || !isUp(s) {
		t.Errorf("the session of a drained node: %+v, %v", s, err)
	}
	t.Logf("%d requests during the drain, none failed", made)
}

func cordon(t *testing.T, node string, on bool) {
	t.Helper()
	verb := map[bool]string{true: "cordon", false: "uncordon"}[on]
	if out, err := tryLab(context.WithoutCancel(t.Context()), "kubectl", verb, node); err != nil {
		t.Errorf("%s: %v %s", verb, err, out)
	}
}

func expectCommunity(ctx context.Context, r router, node, community string) error {
	got, err := r.paths(ctx, netip.PrefixFrom(routed4, 32))
	if err != nil {
		return err
	}
	for _, p := range got {
		if p.Via == node && p.Communities == community {
			return nil
		}
	}
	return fmt.Errorf("it has %v", got)
}

// A node that dies without a word is noticed by BFD, long before the hold time is over, and both sides say so.
func TestBFDEndsTheSession(t *testing.T) {
	routedEverywhere(t, func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "routers" })
	t.Cleanup(func() { mend(t) })
	cut := time.Now()
	lab(t, "link", "node3", "silent")
	for _, r := range []router{frr, bird} {
		eventually(t, 15*time.Second, r.host+" has no route over node3", func(ctx context.Context) error {
			got, err := r.paths(ctx, netip.PrefixFrom(routed4, 32))
			if err == nil && len(got) != 2 {
				err = fmt.Errorf("it has %v", got)
			}
			return err
		})
		t.Logf("%s: node3 was gone %.1f s after it was asked for", r.host, time.Since(cut).Seconds())
	}
	mend(t)
	for _, peer := range []string{"frr", "bird"} {
		s := untilSession(t, "node3", peer, "up and watched again", func(s v1beta1.PeerSession) bool {
			return isWatched(s) && s.LastError != "" // what was written before the cut stays until the node is back
		})
		t.Logf("%s: node3 says that the session ended because: %s", peer, s.LastError)
	}
	everywhere(t)
	settled(t)
	for _, reason := range []string{v1beta1.ReasonSessionDown, v1beta1.ReasonEstablished} {
		peerEvent(t, "frr", reason, "node3")
	}
}

// peerEvent waits for an Event about a BGPPeer that names a node, and returns its note.
func peerEvent(t *testing.T, peer, reason, node string) string {
	t.Helper()
	var note string
	eventually(t, 10*time.Second, fmt.Sprintf("BGPPeer %s has an Event %s about %s", peer, reason, node), func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := cluster.List(ctx, &list, client.InNamespace(metav1.NamespaceDefault)); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, e := range list.Items {
			if e.Regarding.Kind != "BGPPeer" || e.Regarding.Name != peer {
				continue
			}
			seen[e.Reason+" "+e.Note] = true
			if e.Reason == reason && strings.HasPrefix(e.Note, node+": ") {
				note = e.Note
				return nil
			}
		}
		return fmt.Errorf("it has %v", slices.Sorted(maps.Keys(seen)))
	})
	return note
}

// What is wrong with one peer is named, and the others do not notice: a Secret that is missing, a password that is
// wrong, an AS number that is not the peer's.
func TestTroubleStaysWithItsPeer(t *testing.T) {
	routed(t)
	frr.with(t, frr.asn, " neighbor fairlead timers", " neighbor fairlead password s3cret\n neighbor fairlead timers")
	good, bad := newPeer("good", bird), newPeer("bad", frr)
	bad.Spec.PasswordSecret.Name = "routers"
	create(t, newAdvertisement("routed"), good, bad)
	first := untilSession(t, "node1", "good", "up", isUp)
	blocked := untilSession(t, "node1", "bad", "blocked", func(s v1beta1.PeerSession) bool { return s.State == "Blocked" })
	if !strings.Contains(blocked.Reason, "there is no Secret fairlead-system/routers") {
		t.Errorf("the reason is %q", blocked.Reason)
	}
	peerEvent(t, "bad", v1beta1.ReasonSessionDown, "node1")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "routers"},
		StringData: map[string]string{"password": "wrong"},
	}
	create(t, secret)
	untilSession(t, "node1", "bad", "refused for its password", func(s v1beta1.PeerSession) bool {
		return strings.Contains(s.LastError, "as if the password were wrong")
	})
	secret.StringData = map[string]string{"password": "s3cret"}
	if err := cluster.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	untilSession(t, "node1", "bad", "up", isUp)
	before := bad.DeepCopy()
	bad.Spec.PeerASN = 64999
	if err := cluster.Patch(t.Context(), bad, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	wrong := untilSession(t, "node1", "bad", "down for its AS number", func(s v1beta1.PeerSession) bool {
		return !isUp(s) && strings.Contains(s.LastError, "64513")
	})
	t.Logf("the wrong AS number is told as: %s", wrong.LastError)
	last, err := session(t.Context(), "node1", "good")
	if err != nil || !isUp(last) || !last.Since.Equal(first.Since) {
		t.Errorf("the other peer's session noticed: it was %+v, is %+v, %v", first, last, err)
	}
	metrics := lab(t, "exec", "node1", "--", "curl", "-sS", "http://127.0.0.1:7480/metrics")
	for _, want := range []string{`fairlead_bgp_session_up{peer="good"} 1`, `fairlead_bgp_session_up{peer="bad"} 0`, `fairlead_bgp_announced_prefixes{peer="good"} 2`, `fairlead_bgp_session_resets_total{peer="good"} 0`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
