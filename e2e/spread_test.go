package e2e

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// crowdSize is how many Services TestSpread makes: -crowd 300 is what the requirement speaks of.
var crowdSize = flag.Int("crowd", 60, "how many addresses are spread over the nodes")

// crowd makes Services with an IPv6 address each, out of a pool of their own.
func crowd(t *testing.T, n int) {
	t.Helper()
	off := false
	pool := newPool("crowd", "fd30::c000-fd30::cfff")
	pool.Spec.AutoAssign = &off
	objects := []client.Object{pool}
	for i := range n {
		svc := newService(fmt.Sprintf("crowd-%d", i), map[string]string{"fairlead.dev/address-pool": "crowd"})
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		svc.Spec.AllocateLoadBalancerNodePorts = &off
		objects = append(objects, svc)
	}
	create(t, objects...)
}

// holding is where each address of the crowd is, as the Speaker objects of some nodes tell, each with its node and since when.
func holding(ctx context.Context, nodes ...string) (map[string]string, error) {
	found := map[string]string{}
	for _, node := range nodes {
		var speaker v1beta1.Speaker
		if err := cluster.Get(ctx, client.ObjectKey{Name: node}, &speaker); err != nil {
			return nil, err
		}
		for _, a := range speaker.Status.Addresses {
			if !strings.HasPrefix(a.Address, "fd30::c") {
				continue
			}
			if before, twice := found[a.Address]; twice {
				return nil, fmt.Errorf("%s is at %s and at %s", a.Address, before, node)
			}
			found[a.Address] = node + " since " + a.Since.UTC().Format(time.TimeOnly)
		}
	}
	return found, nil
}

// spread waits until some nodes have all the crowd between them, and counts each one's share.
func spread(t *testing.T, n int, nodes ...string) (at map[string]string, share map[string]int) {
	t.Helper()
	began := time.Now()
	eventually(t, time.Minute, fmt.Sprintf("%v announce all %d addresses", nodes, n), func(ctx context.Context) error {
		var err error
		at, err = holding(ctx, nodes...)
		if err == nil && len(at) != n {
			err = fmt.Errorf("they announce %d", len(at))
		}
		return err
	})
	share = map[string]int{}
	for _, where := range at {
		node, _, _ := strings.Cut(where, " ")
		share[node]++
	}
	t.Logf("%d addresses: %v, after %.1f s", n, share, time.Since(began).Seconds())
	return at, share
}

// moved lists the addresses of some nodes that are elsewhere now, or were announced anew.
func moved(before, after map[string]string, nodes ...string) []string {
	var found []string
	for _, address := range slices.Sorted(maps.Keys(before)) {
		node, _, _ := strings.Cut(before[address], " ")
		if slices.Contains(nodes, node) && after[address] != before[address] {
			found = append(found, fmt.Sprintf("%s: %s, now %s", address, before[address], after[address]))
		}
	}
	return found
}

// Many addresses spread evenly; a node that is lost moves its own and no others, and so does its
// return; and nothing moves when a node that has none restarts.
func TestSpread(t *testing.T) {
	settled(t)
	t.Cleanup(func() { mend(t) })
	crowd(t, *crowdSize)
	all := []string{"node1", "node2", "node3"}
	before, share := spread(t, *crowdSize, all...)
	even := float64(*crowdSize) / 3
	for _, node := range all {
		if n := float64(share[node]); n < 0.75*even || n > 1.25*even {
			t.Errorf("%s has %v addresses, which is not within a quarter of %v", node, n, even)
		}
	}
	lab(t, "link", "node2", "silent")
	after, _ := spread(t, *crowdSize, "node1", "node3")
	if found := moved(before, after, "node1", "node3"); len(found) > 0 {
		t.Errorf("node2 was lost, and addresses of others moved: %q", found)
	}
	mend(t)
	settled(t)
	back, _ := spread(t, *crowdSize, all...)
	if found := moved(before, back, "node1", "node3"); len(found) > 0 {
		t.Errorf("node2 came back, and addresses of others moved: %q", found)
	}
	for address, where := range before {
		if strings.HasPrefix(where, "node2 ") && !strings.HasPrefix(back[address], "node2 ") {
			t.Errorf("%s of node2 is back at %s", address, back[address])
		}
	}
	idleRestart(t)
}

// idleRestart takes all addresses from a node, restarts its speaker, and cuts it: nothing moves.
func idleRestart(t *testing.T) {
	t.Helper()
	const excluded = corev1.LabelNodeExcludeBalancers
	lab(t, "kubectl", "label", "node", "node2", excluded+"=")
	t.Cleanup(func() {
		if out, err := tryLab(context.WithoutCancel(t.Context()), "kubectl", "label", "node", "node2", excluded+"-"); err != nil {
			t.Errorf("include node2 again: %v %s", err, out)
		}
	})
	before, _ := spread(t, *crowdSize, "node1", "node3")
	lab(t, "kubectl", "delete", "pod", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=speaker", "--field-selector", "spec.nodeName=node2")
	lab(t, "kubectl", "rollout", "status", "-n", "fairlead-system", "daemonset/fairlead-speaker", "--timeout=60s")
	settled(t)
	lab(t, "link", "node2", "silent")
	eventually(t, time.Minute, "node1 notices that node2 is silent", func(ctx context.Context) error {
		var speaker v1beta1.Speaker
		if err := cluster.Get(ctx, client.ObjectKey{Name: "node1"}, &speaker); err != nil {
			return err
		}
		if speaker.Status.Counts.Members != 2 {
			return fmt.Errorf("it knows %d", speaker.Status.Counts.Members)
		}
		return nil
	})
	mend(t)
	settled(t)
	after, _ := spread(t, *crowdSize, "node1", "node3")
	if found := moved(before, after, "node1", "node3"); len(found) > 0 {
		t.Errorf("a node without addresses restarted, and addresses moved: %q", found)
	}
}
