package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// storyNamespace holds all that the stories make.
const storyNamespace = "stories"

var storyNodes = []string{"node1", "node2", "node3"}

// TestStories tells what everybody does with Services, one thing after the
// other and in the words of kubectl.
func TestStories(t *testing.T) {
	stories(t, "create", "namespace", storyNamespace)
	t.Cleanup(func() {
		if out, err := tryLab(context.WithoutCancel(t.Context()), "kubectl", "delete", "namespace", storyNamespace, "--timeout=90s"); err != nil {
			t.Errorf("delete the namespace: %v %s", err, out)
		}
	})
	stories(t, "apply", "-f", filepath.Join(checkout, "e2e", "stories.yaml"))
	stories(t, "expose", "deployment", "shop", "--port=80", "--target-port=8888")
	// The Service is older than this pod, so the pod has variables for it.
	stories(t, "run", "asker", "--image=fairlead.dev/agnhost:lab", "--image-pull-policy=IfNotPresent", "--restart=Never", "--", "pause")
	stories(t, "rollout", "status", "deployment/shop", "--timeout=60s")
	stories(t, "wait", "--for=condition=Ready", "pod/asker", "--timeout=60s")
	for _, story := range []struct {
		name string
		tell func(*testing.T)
	}{
		{"names and variables", storyNames},
		{"a node port", storyNodePort},
		{"an external IP", storyExternalIP},
		{"endpoints written by hand", storyByHand},
		{"an external name", storyExternalName},
		{"scaled and rolled out", storyScale},
		{"endpoints as the kernel has them", storyEndpoints},
		{"how an endpoint is chosen", storySelection},
		{"deleted", storyDeleted},
		{"a pod and a node killed", storyKilled},
	} {
		t.Run(story.name, story.tell)
	}
}

// stories runs kubectl in the namespace of the stories.
func stories(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(lab(t, append([]string{"kubectl", "-n", storyNamespace}, args...)...))
}

// ask runs a shell command in the pod asker.
func ask(ctx context.Context, script string) (string, error) {
	out, err := tryLab(ctx, "kubectl", "-n", storyNamespace, "exec", "asker", "--", "sh", "-c", script)
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return strings.TrimSpace(out), nil
}

// answers waits until a URL is answered with a text in it, which the caches of
// the DNS may put off.
func answers(t *testing.T, limit time.Duration, get func(context.Context) (string, error), want string) {
	t.Helper()
	eventually(t, limit, "an answer with "+want, func(ctx context.Context) error {
		got, err := get(ctx)
		if err == nil && !strings.Contains(got, want) {
			err = fmt.Errorf("the answer is %q", got)
		}
		return err
	})
}

// A Deployment exposed as a ClusterIP, called by each of its names and by the
// variables that a pod finds in its environment.
func storyNames(t *testing.T) {
	for _, host := range []string{
		"shop", "shop." + storyNamespace, "shop." + storyNamespace + ".svc", "shop." + storyNamespace + ".svc.cluster.local",
		"$SHOP_SERVICE_HOST", "$SHOP_SERVICE_HOST:$SHOP_SERVICE_PORT", "${SHOP_PORT#tcp://}",
	} {
		got, err := ask(t.Context(), "fetch http://"+host+"/hostname")
		if err != nil || !strings.HasPrefix(got, "shop-") {
			t.Errorf("http://%s/hostname answered %q: %v", host, got, err)
		}
	}
	got, err := ask(t.Context(), "echo $SHOP_SERVICE_HOST")
	if want := stories(t, "get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}"); got != want {
		t.Errorf("SHOP_SERVICE_HOST is %q, want %s: %v", got, want, err)
	}
}

// Node port 30333 leads to port 8888, on every address of every node, from inside and outside.
func storyNodePort(t *testing.T) {
	for i := range storyNodes {
		for _, addr := range []string{fmt.Sprintf("172.30.0.%d", 11+i), fmt.Sprintf("fd30::%d", 11+i)} {
			url := "http://" + net.JoinHostPort(addr, "30333") + "/hostname"
			for _, from := range []string{"client", "remote"} {
				if got, err := fetch(t.Context(), from, url); err != nil || !strings.HasPrefix(got, "shop-") {
					t.Errorf("%s from %s answered %q: %v", url, from, got, err)
				}
			}
			if got, err := ask(t.Context(), "fetch '"+url+"'"); err != nil || !strings.HasPrefix(got, "shop-") {
				t.Errorf("%s from a pod answered %q: %v", url, got, err)
			}
		}
	}
	// No process listens on it, and the port of the Service is not the nodes'.
	if out, err := fetch(t.Context(), "client", "http://172.30.0.11:8888/hostname"); err == nil {
		t.Errorf("port 8888 of node1 answered %q", out)
	}
}

// An address that the network sends to the nodes belongs to a Service that names it.
func storyExternalIP(t *testing.T) {
	for _, via := range []string{"172.30.0.12", "172.30.0.13"} {
		lab(t, "exec", "client", "--", "ip", "route", "replace", "203.0.113.77", "via", via)
		if got, err := fetch(t.Context(), "client", "http://203.0.113.77/hostname"); err != nil || !strings.HasPrefix(got, "shop-") {
			t.Errorf("by way of %s: answered %q: %v", via, got, err)
		}
	}
	lab(t, "exec", "client", "--", "ip", "route", "del", "203.0.113.77")
	if got, err := ask(t.Context(), "fetch http://203.0.113.77/hostname"); err != nil || !strings.HasPrefix(got, "shop-") {
		t.Errorf("from a pod: answered %q: %v", got, err)
	}
}

// A Service without a selector leads to a machine outside the cluster.
func storyByHand(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("an old machine"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), labBinary, "exec", "client", "--", "busybox", "httpd", "-f", "-p", "8099", "-h", dir)
	server.Dir = checkout
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	answers(t, 20*time.Second, func(ctx context.Context) (string, error) { return ask(ctx, "fetch http://legacy/index.html") }, "an old machine")
}

// An ExternalName is an alias in the DNS; it becomes a ClusterIP and an alias again.
func storyExternalName(t *testing.T) {
	stories(t, "create", "service", "externalname", "alias", "--external-name=web.default.svc.cluster.local")
	name := "alias." + storyNamespace + ".svc.cluster.local"
	lookup := func(ctx context.Context) (string, error) { return ask(ctx, "nslookup "+name+" || true") }
	const dnsCache = 75 * time.Second // twice what the lab's DNS may remember, and some
	answers(t, dnsCache, lookup, "canonical name = web.default.svc.cluster.local")
	answers(t, dnsCache, func(ctx context.Context) (string, error) { return ask(ctx, "fetch http://alias/hostname") }, "web-")
	stories(t, "patch", "service", "alias", "--type=merge", "-p",
		`{"spec":{"type":"ClusterIP","externalName":null,"selector":{"app":"shop"},"ports":[{"port":80,"targetPort":8888}]}}`)
	cluster := stories(t, "get", "service", "alias", "-o", "jsonpath={.spec.clusterIP}")
	answers(t, 10*time.Second, func(ctx context.Context) (string, error) { return ask(ctx, "fetch http://"+cluster+"/hostname") }, "shop-")
	answers(t, dnsCache, lookup, cluster)
	stories(t, "patch", "service", "alias", "--type=merge", "-p",
		`{"spec":{"type":"ExternalName","externalName":"web.default.svc.cluster.local","clusterIP":null,"clusterIPs":null,"selector":null}}`)
	gone(t, cluster)
	answers(t, dnsCache, lookup, "canonical name = web.default.svc.cluster.local")
}

// gone waits until no node's rules have a text any more.
func gone(t *testing.T, texts ...string) {
	t.Helper()
	for _, node := range storyNodes {
		eventually(t, 10*time.Second, fmt.Sprintf("%v are gone from %s", texts, node), func(ctx context.Context) error {
			var errs []error
			for _, family := range []string{"ip", "ip6"} {
				out, err := tryLab(ctx, "exec", node, "--", "nft", "list", "table", family, "fairlead")
				errs = append(errs, err)
				for _, text := range texts {
					if regexp.MustCompile(`\b` + regexp.QuoteMeta(text) + `\b`).MatchString(out) {
						errs = append(errs, fmt.Errorf("table %s has %s", family, text))
					}
				}
			}
			return errors.Join(errs...)
		})
	}
}

// customers call all the time, until the function they return is called, which
// says how often they did and what went wrong.
func customers(t *testing.T, fetch, url string, where ...string) (stop func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stop")
	if where[0] == "kubectl" {
		file = "/tmp/stop" // of the pod
	}
	script := fmt.Sprintf("rm -f %s; while [ ! -e %s ]; do %s '%s' >/dev/null 2>/tmp/why.$$ && echo well || { echo failed; cat /tmp/why.$$; }; done; rm -f /tmp/why.$$",
		file, file, fetch, url)
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := tryLab(t.Context(), append(slices.Clone(where), "sh", "-c", script)...)
		done <- result{out, err}
	}()
	return func() {
		t.Helper()
		lab(t, append(slices.Clone(where), "touch", file)...)
		r := <-done
		calls, failed := strings.Count(r.out, "well"), strings.Count(r.out, "failed")
		t.Logf("%s: %d calls, %d failed", url, calls+failed, failed)
		if r.err != nil || failed > 0 || calls < 20 {
			t.Errorf("%s: %d of %d calls failed: %v\n%s", url, failed, calls+failed, r.err, strings.ReplaceAll(r.out, "well\n", ""))
		}
	}
}

// Scaled from 1 to 10 to 2 and rolled out anew, while customers inside and
// outside the cluster call all the time: none of them is turned away.
func storyScale(t *testing.T) {
	inside := customers(t, "fetch", "http://shop/hostname", "kubectl", "-n", storyNamespace, "exec", "asker", "--")
	outside := customers(t, "curl -sS --fail --max-time 10", "http://172.30.0.13:30333/hostname", "exec", "client", "--")
	for _, step := range [][]string{{"scale", "--replicas=10"}, {"scale", "--replicas=2"}, {"rollout", "restart"}} {
		stories(t, append(step, "deployment/shop")...)
		stories(t, "rollout", "status", "deployment/shop", "--timeout=120s")
		stories(t, "wait", "--for=jsonpath={.status.terminatingReplicas}=0", "deployment/shop", "--timeout=60s")
	}
	inside()
	outside()
}

// What kubectl says of a Service's endpoints is what the kernel of each node has.
func storyEndpoints(t *testing.T) {
	described := regexp.MustCompile(`(?m)^\s+Addresses:\s+(\S+)$`).FindStringSubmatch(stories(t, "describe", "endpoints", "shop"))
	if described == nil {
		t.Fatal("kubectl describe endpoints shows no addresses")
	}
	var want []string
	for addr := range strings.SplitSeq(described[1], ",") {
		want = append(want, addr+":8888")
	}
	slices.Sort(want)
	cluster := stories(t, "get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}")
	for _, node := range storyNodes {
		have := kernelSlots(t, node, cluster, "80")
		if slices.Sort(have); !slices.Equal(have, want) {
			t.Errorf("%s has %v, kubectl describe endpoints says %v", node, have, want)
		}
	}
}

// An annotation says how endpoints are chosen: by a table that is the same on
// every node. A value that nobody knows is told, and changes nothing.
func storySelection(t *testing.T) {
	const key = "fairlead.dev/backend-selection"
	cluster := stories(t, "get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}")
	endpoints := len(kernelSlots(t, "node1", cluster, "80"))
	everywhere := func(slots int) {
		t.Helper()
		eventually(t, 10*time.Second, fmt.Sprintf("every node has the same %d slots", slots), func(context.Context) error {
			first := kernelSlots(t, storyNodes[0], cluster, "80")
			for _, node := range storyNodes {
				have := kernelSlots(t, node, cluster, "80")
				if len(have) != slots || (slots > endpoints && !slices.Equal(have, first)) {
					return fmt.Errorf("%s has %d slots: %v, %s has %v", node, len(have), have, storyNodes[0], first)
				}
			}
			return nil
		})
	}
	stories(t, "annotate", "service", "shop", key+"=consistent-hash")
	everywhere(256)
	if got, err := ask(t.Context(), "fetch http://shop/hostname"); err != nil || !strings.HasPrefix(got, "shop-") {
		t.Errorf("by hash: answered %q: %v", got, err)
	}
	stories(t, "annotate", "--overwrite", "service", "shop", key+"=fastest")
	everywhere(endpoints)
	eventually(t, 20*time.Second, "every Speaker tells of the value", func(ctx context.Context) error {
		out, err := tryLab(ctx, "kubectl", "get", "speakers", "-o", "jsonpath={.items[*].status.problems}")
		if n := strings.Count(out, `"reason":"BackendSelectionInvalid"`); err == nil && n != len(storyNodes) {
			err = fmt.Errorf("%d Speakers do: %s", n, out)
		}
		return err
	})
	stories(t, "annotate", "service", "shop", key+"-")
}

// kernelSlots follows a node's maps from a ClusterIP's port to its endpoints,
// as a packet would, and lists them by slot.
func kernelSlots(t *testing.T, node, cluster, port string) []string {
	t.Helper()
	list := func(name string) string {
		return lab(t, "exec", node, "--", "nft", "list", "map", "ip", "fairlead", name)
	}
	front := regexp.MustCompile(regexp.QuoteMeta(cluster+" . tcp . "+port+" : ") + `(\w+):(\w+)`).FindStringSubmatch(list("frontends"))
	if front == nil {
		t.Fatalf("%s does not know %s port %s", node, cluster, port)
	}
	at := map[int]string{}
	for _, e := range regexp.MustCompile(`(\w+):(\w+) \. (\d+) : (\S+) \. (\d+)`).FindAllStringSubmatch(list("endpoints"), -1) {
		if target(t, e) == target(t, front) {
			slot, err := strconv.Atoi(e[3])
			if err != nil {
				t.Fatal(err)
			}
			at[slot] = e[4] + ":" + e[5]
		}
	}
	var found []string
	for _, slot := range slices.Sorted(maps.Keys(at)) {
		found = append(found, at[slot])
	}
	return found
}

// target is the part of a token, printed as MAJOR:MINOR, that names the list of endpoints.
func target(t *testing.T, token []string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(fmt.Sprintf("%04s%04s", token[1], token[2]), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	const classBits = 13
	return n >> classBits
}

// Deleted, the Service is gone from the rules of every node.
func storyDeleted(t *testing.T) {
	var texts []string
	for _, name := range []string{"shop", "shop-front", "shop-extern", "legacy"} {
		addrs := strings.Fields(stories(t, "get", "service", name, "-o", "jsonpath={.spec.clusterIPs[*]}"))
		texts = append(texts, addrs...)
		stories(t, "delete", "service", name)
	}
	gone(t, append(texts, "203.0.113.77", "30333")...)
	for _, text := range texts {
		if _, err := netip.ParseAddr(text); err != nil {
			t.Error(err)
		}
	}
	if out, err := ask(t.Context(), "fetch http://"+texts[0]+"/hostname"); err == nil {
		t.Errorf("%s still answers: %s", texts[0], out)
	}
}

// A pod is killed, then a node: the front address keeps answering. How long it did not is printed.
func storyKilled(t *testing.T) {
	podOnEachNode(t) // a drained node has none
	settled(t)
	addr := webAddresses(t)[0]
	for _, cut := range [][]string{{"pod", "--pod-namespace", "default", "--pod-selector", "app=web"}, {"node"}} {
		out := lab(t, append([]string{"failover", "--runs", "1", "--json", "--address", addr.String(), "--cut"}, cut...)...)
		var got struct {
			Runs []struct {
				Host                      string
				FirstSuccess, LastFailure float64
				Failed, Attempts          int
			}
			Load string
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("read the figures: %v\n%s", err, out)
		}
		run := got.Runs[0]
		t.Logf("%s of %s killed: last failure after %.2f s, %d of %d failed, load %s", cut[0], run.Host, run.LastFailure, run.Failed, run.Attempts, got.Load)
		if run.LastFailure > 10 {
			t.Errorf("%s killed: %s still failed after %.2f s", cut[0], addr, run.LastFailure)
		}
	}
	lab(t, "kubectl", "rollout", "status", "deployment/web", "--timeout=120s")
	settled(t)
}
