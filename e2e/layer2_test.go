package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// long makes the tests of Layer 2 as long as the requirement speaks of, and holds them to its times, which
// say something only on a machine that has nothing else to do: make test-failover.
var long = flag.Bool("long", false, "full-length outages, and a limit of 2 s on how long more than one node, or none, may answer")

// aloneWithin is how soon after an event exactly one node must answer, with -long.
const aloneWithin = 2 * time.Second

// alone waits until exactly one node answers for an address, and prints how long after an event that was.
func alone(t *testing.T, event string, at time.Time, addr netip.Addr) string {
	t.Helper()
	owner, asked := oneOwner(t, "client", addr)
	took := asked.Sub(at)
	t.Logf("%s alone answers for %s %.1f s after %s, load %s", owner, addr, took.Seconds(), event, busy())
	if *long && took > aloneWithin {
		t.Errorf("it took %s until one node answered alone for %s after %s", took, addr, event)
	}
	return owner
}

// serve waits until a page is fetched through each of some addresses. Ask first who is alone: a fetch that meets a pod
// that has just died takes seconds.
func serve(t *testing.T, addrs []netip.Addr) {
	t.Helper()
	for _, addr := range addrs {
		eventually(t, 10*time.Second, addr.String()+" answers", func(ctx context.Context) error {
			_, err := fetch(ctx, "client", url(addr, "/hostname"))
			return err
		})
	}
}

func busy() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:2], " ")
}

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

// oneOwner waits until exactly one node answers and returns when that was first asked.
func oneOwner(t *testing.T, host string, addr netip.Addr) (string, time.Time) {
	t.Helper()
	var asked time.Time
	var owner string
	eventually(t, 20*time.Second, fmt.Sprintf("one node answers %s for %s", host, addr), func(ctx context.Context) error {
		asked = time.Now()
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
	return owner, asked
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
	for _, apart := range [][]string{{"node1"}, {"node2", "node3"}, {"node3", "node1"}} {
		for _, node := range apart {
			lab(t, "link", node, "apart")
		}
		split := time.Now()
		for _, addr := range webAddresses(t) {
			if owner := alone(t, fmt.Sprintf("%v were cut off", apart), split, addr); slices.Contains(apart, owner) {
				t.Errorf("%s is apart and answers the client", owner)
			}
		}
		serve(t, webAddresses(t))
		mend(t)
		healed := time.Now()
		for _, addr := range webAddresses(t) {
			alone(t, "the healing", healed, addr)
		}
		serve(t, webAddresses(t))
		settled(t)
	}
}

// A link that flaps leaves one owner behind, and an address that answers.
func TestFlappingLink(t *testing.T) {
	settled(t)
	t.Cleanup(func() { mend(t) })
	owner, _ := oneOwner(t, "client", webAddresses(t)[0])
	for range 20 {
		lab(t, "link", owner, "down")
		lab(t, "link", owner, "up")
	}
	calm := time.Now()
	for _, addr := range webAddresses(t) {
		alone(t, "20 flaps of "+owner, calm, addr)
	}
	serve(t, webAddresses(t))
	settled(t)
	for _, addr := range webAddresses(t) {
		oneOwner(t, "client", addr)
	}
}

// All speakers restart at once: the address answers again, from one node.
func TestAllSpeakersRestart(t *testing.T) {
	settled(t)
	lab(t, "kubectl", "delete", "pods", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=speaker")
	lab(t, "kubectl", "rollout", "status", "-n", "fairlead-system", "daemonset/fairlead-speaker", "--timeout=60s")
	back := time.Now()
	for _, addr := range webAddresses(t) {
		alone(t, "all speakers were ready again", back, addr)
	}
	serve(t, webAddresses(t))
	settled(t)
	for _, addr := range webAddresses(t) {
		oneOwner(t, "client", addr)
	}
}

// restartSpeaker deletes the speaker's pod of a node and waits until its successor is ready.
func restartSpeaker(t *testing.T, node string) {
	t.Helper()
	lab(t, "kubectl", "delete", "pod", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=speaker", "--field-selector", "spec.nodeName="+node)
	lab(t, "kubectl", "rollout", "status", "-n", "fairlead-system", "daemonset/fairlead-speaker", "--timeout=60s")
}

// setClocks lets the speakers of nodes see a wrong time of day. It is put right at the end of the test. The kubelets' stays
// right: one that was ahead when a container ended starts it again only when that time has come.
func setClocks(t *testing.T, offsets map[string]string) {
	t.Helper()
	for node, offset := range offsets {
		t.Logf("%s: %s", node, strings.TrimSpace(lab(t, "clock", node, offset, "speaker")))
		t.Cleanup(func() {
			if out, err := tryLab(context.WithoutCancel(t.Context()), "clock", node, "0", "speaker"); err != nil {
				t.Errorf("set the clock of %s: %v %s", node, err, out)
			}
		})
	}
}

// The time of day of a node, or of all of them, steps forwards and back: no address moves. While it is wrong a dead node
// is stood in for as ever, and a speaker that restarts with the right time, among others that have it not, disturbs nobody.
func TestClockSteps(t *testing.T) {
	settled(t)
	t.Cleanup(func() { mend(t) })
	addrs := webAddresses(t)
	owner, _ := oneOwner(t, "client", addrs[0])
	other := "node1"
	if owner == other {
		other = "node2"
	}
	wrong := map[string]string{"node1": "+24h", "node2": "-30m", "node3": "+45s"}
	for _, step := range []map[string]string{
		{owner: "+1h"}, {owner: "-1h"}, {owner: "0"}, {other: "+1h"}, {other: "-1h"}, {other: "0"}, wrong,
	} {
		setClocks(t, step)
		stays(t, addrs, owner, 3*time.Second)
		serve(t, addrs)
	}
	lab(t, "link", owner, "silent")
	cut := time.Now()
	heirs := map[netip.Addr]string{}
	for _, addr := range addrs {
		if heirs[addr] = alone(t, owner+" died", cut, addr); heirs[addr] == owner {
			t.Errorf("%s is dead and answers for %s", owner, addr)
		}
	}
	serve(t, addrs)
	mend(t)
	mended := time.Now()
	for _, addr := range addrs {
		alone(t, owner+" is back", mended, addr)
	}
	settled(t)
	restartSpeaker(t, other)
	for _, addr := range addrs {
		oneOwner(t, "client", addr)
	}
	serve(t, addrs)
	now, _ := oneOwner(t, "client", addrs[0])
	setClocks(t, map[string]string{"node1": "0", "node2": "0", "node3": "0"})
	stays(t, addrs, now, 3*time.Second)
	serve(t, addrs)
	settled(t)
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
	outage := 5 * time.Second // before and after a node dies in it; each step takes its own time besides
	if *long {
		outage = 30 * time.Second
	}
	settled(t)
	addrs := webAddresses(t)
	before, _ := oneOwner(t, "client", addrs[0])
	signalOn(t, "control", "kube-apiserver", "STOP")
	stopped, running := time.Now(), false
	start := func() {
		if !running {
			signalOn(t, "control", "kube-apiserver", "CONT")
		}
		running = true
	}
	t.Cleanup(func() { start(); mend(t) })
	stays(t, addrs, before, outage)
	lab(t, "link", before, "silent")
	cut := time.Now()
	heirs := map[netip.Addr]string{}
	for _, addr := range addrs {
		if heirs[addr] = alone(t, before+" died", cut, addr); heirs[addr] == before {
			t.Errorf("%s is dead and answers for %s", before, addr)
		}
	}
	serve(t, addrs)
	stays(t, addrs[:1], heirs[addrs[0]], outage)
	signalOn(t, heirs[addrs[0]], "speaker", "KILL")
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
	t.Logf("the API server was away for %.0f s", time.Since(stopped).Seconds())
	mend(t)
	mended := time.Now()
	for _, addr := range addrs {
		alone(t, "node and API server are back", mended, addr)
	}
	serve(t, addrs)
	eventually(t, time.Minute, "the API server is back", func(ctx context.Context) error {
		_, err := service(ctx, "web")
		return err
	})
	settled(t)
	for _, addr := range addrs {
		oneOwner(t, "client", addr)
	}
}

// stays asks for a while who has addresses, and expects one node all the time.
func stays(t *testing.T, addrs []netip.Addr, want string, during time.Duration) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); {
		for _, addr := range addrs {
			if found, err := owners(t.Context(), "client", addr); err != nil || len(found) != 1 || found[0] != want {
				t.Fatalf("%v answer for %s, %v; want %s", found, addr, err, want)
			}
		}
	}
}

// Announced addresses answer pings while somebody serves them, and say nothing while nobody does.
func TestPings(t *testing.T) {
	ping := func(ctx context.Context, addr netip.Addr) error {
		out, err := tryLab(ctx, "exec", "client", "--", "ping", "-c", "1", "-W", "1", addr.String())
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	for _, addr := range webAddresses(t) {
		eventually(t, 10*time.Second, addr.String()+" is pinged", func(ctx context.Context) error { return ping(ctx, addr) })
	}
	svc := newService("nobody", nil)
	svc.Spec.Selector = map[string]string{"app": "nobody"}
	create(t, svc)
	told(t, "nobody", metav1.ConditionTrue, v1beta1.ReasonAnnounced)
	got, err := service(t.Context(), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addresses(got) {
		oneOwner(t, "client", addr)
		if err := ping(t.Context(), addr); err == nil {
			t.Errorf("%s answers pings, and nobody serves it", addr)
		}
	}
}
