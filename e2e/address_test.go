package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// webAddresses are those of the sample Service, IPv4 first.
func webAddresses(t *testing.T) []netip.Addr {
	t.Helper()
	svc, err := service(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	found := addresses(svc)
	slices.SortFunc(found, netip.Addr.Compare)
	if len(found) != 2 || !found[0].Is4() || !found[1].Is6() {
		t.Fatalf("the Service web has %v, want an IPv4 and an IPv6 address", found)
	}
	return found
}

func addresses(svc *corev1.Service) []netip.Addr {
	var found []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		found = append(found, netip.MustParseAddr(ingress.IP))
	}
	return found
}

func url(addr netip.Addr, path string) string {
	return "http://" + netip.AddrPortFrom(addr, 80).String() + path
}

// Repeated calls from the LAN and from beyond the router reach every pod.
func TestEveryPodIsReached(t *testing.T) {
	for _, host := range []string{"client", "remote"} {
		for _, addr := range webAddresses(t) {
			t.Run(host+" "+addr.String(), func(t *testing.T) {
				script := fmt.Sprintf("for i in $(seq 60); do curl -sS --fail --max-time 3 %s || exit 1; echo; done", url(addr, "/hostname"))
				seen := map[string]int{}
				for name := range strings.FieldsSeq(lab(t, "exec", host, "--", "sh", "-c", script)) {
					seen[name]++
				}
				if len(seen) != 3 {
					t.Errorf("60 requests reached %v, want three pods", seen)
				}
			})
		}
	}
}

// The router learns the address from the network: its neighbour entry is the owner's.
func TestRouterHasTheOwnersNeighbourEntry(t *testing.T) {
	for _, addr := range webAddresses(t) {
		if _, err := fetch(t.Context(), "remote", url(addr, "/hostname")); err != nil {
			t.Fatal(err)
		}
		owner := announcer(t, addr)
		var speaker v1beta1.Speaker
		if err := cluster.Get(t.Context(), client.ObjectKey{Name: owner}, &speaker); err != nil {
			t.Fatal(err)
		}
		entry := lab(t, "exec", "router", "--", "ip", "neigh", "show", addr.String())
		for _, announced := range speaker.Status.Addresses {
			if announced.Address == addr.String() && !strings.Contains(entry, announced.MAC) {
				t.Errorf("the router's entry for %s is %q, want the MAC address %s of %s", addr, entry, announced.MAC, owner)
			}
		}
	}
}

// announcer waits until exactly one Speaker says that it announces an address, and names it.
func announcer(t *testing.T, addr netip.Addr) string {
	t.Helper()
	var owner string
	eventually(t, 30*time.Second, addr.String()+" has one owner", func(ctx context.Context) error {
		var speakers v1beta1.SpeakerList
		if err := cluster.List(ctx, &speakers); err != nil {
			return err
		}
		var owners []string
		for _, speaker := range speakers.Items {
			for _, announced := range speaker.Status.Addresses {
				if announced.Address == addr.String() {
					owners = append(owners, speaker.Name)
				}
			}
		}
		if len(owners) != 1 {
			return fmt.Errorf("it is announced by %v", owners)
		}
		owner = owners[0]
		return nil
	})
	return owner
}

// settled waits until all speakers know each other.
func settled(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "all speakers know each other", func(ctx context.Context) error {
		var speakers v1beta1.SpeakerList
		if err := cluster.List(ctx, &speakers); err != nil {
			return err
		}
		for _, speaker := range speakers.Items {
			if got := speaker.Status.Counts.Members; got != 3 {
				return fmt.Errorf("%s knows %d", speaker.Name, got)
			}
		}
		return nil
	})
}

// The owner's speaker pod is deleted, or its node falls silent: another node
// takes the address. How long that took is printed.
func TestTheAddressMoves(t *testing.T) {
	for _, cut := range []string{"pod", "link"} {
		for _, addr := range webAddresses(t) {
			t.Run(cut+" "+addr.String(), func(t *testing.T) {
				settled(t)
				before := announcer(t, addr)
				out := lab(t, "failover", "--address", addr.String(), "--cut", cut, "--runs", "1", "--json")
				var got struct {
					Runs []struct {
						Host                      string
						Owners                    []string
						FirstSuccess, LastFailure float64
						Failed, Attempts          int
					}
					Load string
				}
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Fatalf("read the figures: %v\n%s", err, out)
				}
				run := got.Runs[0]
				t.Logf("%s of %s cut: first success after %.2f s, last failure after %.2f s, %d of %d failed, seen at %v, load %s",
					cut, run.Host, run.FirstSuccess, run.LastFailure, run.Failed, run.Attempts, run.Owners, got.Load)
				if run.Host != before {
					t.Errorf("the network sent packets for %s to %s, but %s announces it", addr, run.Host, before)
				}
				if len(run.Owners) < 2 {
					t.Errorf("the address stayed at %v", run.Owners)
				}
				announcer(t, addr)
			})
		}
	}
}

// A pool that cannot be is refused by the API server, in words that help.
func TestBadPoolIsRefused(t *testing.T) {
	tests := map[string]struct{ addresses, want string }{
		"nonsense":              {"192.168.1", "write a CIDR such as 192.168.10.0/24"},
		"host bits":             {"192.168.1.7/24", "write 192.168.1.7 for the one address"},
		"families mixed":        {"192.168.1.1-fd00::1", "write two ranges"},
		"a prefix out of range": {"192.168.1.0/33", "is not a range of addresses"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := cluster.Create(t.Context(), newPool("bad", test.addresses))
			if err == nil {
				_ = cluster.Delete(t.Context(), newPool("bad"))
				t.Fatalf("the API server took a pool with %q", test.addresses)
			}
			t.Log(err)
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the message %q does not say %q", err, test.want)
			}
		})
	}
}

func newPool(name string, ranges ...string) *v1beta1.IPAddressPool {
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, text := range ranges {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1beta1.AddressRange(text))
	}
	return pool
}

// newService is a Service of type LoadBalancer for the sample's pods.
func newService(name string, annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Annotations: annotations},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

// allocated waits until the Service's condition has a reason, and returns the Service.
func allocated(t *testing.T, name, reason string) *corev1.Service {
	t.Helper()
	var svc *corev1.Service
	eventually(t, 30*time.Second, "Service "+name+" is "+reason, func(ctx context.Context) error {
		var err error
		if svc, err = service(ctx, name); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(svc.Status.Conditions, v1beta1.ConditionAllocated)
		if condition == nil || condition.Reason != reason {
			return fmt.Errorf("its condition is %+v", condition)
		}
		return nil
	})
	return svc
}

// event waits until an Event about a Service has a reason, and returns its note.
func event(t *testing.T, svc *corev1.Service, reason string) string {
	t.Helper()
	var note string
	eventually(t, 10*time.Second, "Service "+svc.Name+" has an Event "+reason, func(ctx context.Context) error {
		var events eventsv1.EventList
		if err := cluster.List(ctx, &events, client.InNamespace(svc.Namespace)); err != nil {
			return err
		}
		reasons := map[string]bool{}
		for _, e := range events.Items {
			if e.Regarding.UID == svc.UID {
				reasons[e.Reason] = true
				note = e.Note
			}
			if e.Regarding.UID == svc.UID && e.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("it has %v", slices.Sorted(maps.Keys(reasons)))
	})
	return note
}

// A Service that comes to ask for an address outside every pool keeps what it
// has, answers on, and says why in a condition and an Event.
func TestAddressOutsideEveryPool(t *testing.T) {
	create(t, newService("outside", nil))
	before := allocated(t, "outside", v1beta1.ReasonAddressAllocated)
	after := before.DeepCopy()
	after.Annotations = map[string]string{"fairlead.dev/loadBalancerIPs": "203.0.113.7"}
	if err := cluster.Patch(t.Context(), after, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	got := allocated(t, "outside", v1beta1.ReasonAddressNotInPool)
	if !slices.Equal(addresses(got), addresses(before)) || got.Spec.ClusterIP != before.Spec.ClusterIP {
		t.Errorf("the Service had %v, %s and now has %v, %s", addresses(before), before.Spec.ClusterIP, addresses(got), got.Spec.ClusterIP)
	}
	t.Log(event(t, got, v1beta1.ReasonAddressNotInPool))
	if _, err := fetch(t.Context(), "client", url(addresses(before)[0], "/hostname")); err != nil {
		t.Errorf("the address it kept does not answer: %v", err)
	}
}

// A full pool says so, and the first address to be free goes to who waits.
func TestFullPoolAndAFreedAddress(t *testing.T) {
	off := false
	pool := newPool("tiny", "172.30.0.240/32")
	pool.Spec.AutoAssign = &off
	// The sample pool holds the same address; it must not be given twice, so the tiny pool needs one of its own.
	pool.Spec.Addresses = []v1beta1.AddressRange{"172.30.0.199/32"}
	tiny := map[string]string{"fairlead.dev/address-pool": "tiny"}
	create(t, pool, newService("first", tiny))
	first := allocated(t, "first", v1beta1.ReasonAddressAllocated)
	create(t, newService("second", tiny))
	second := allocated(t, "second", v1beta1.ReasonPoolExhausted)
	t.Log(event(t, second, v1beta1.ReasonPoolExhausted))
	if err := cluster.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second = allocated(t, "second", v1beta1.ReasonAddressAllocated)
	if got := addresses(second); len(got) != 1 || got[0].String() != "172.30.0.199" {
		t.Errorf("the second Service has %v, want the address that was freed", got)
	}
}

// No pool of a family: the Service says what there is and what to do.
func TestServiceThatNamesNoPool(t *testing.T) {
	create(t, newService("lost", map[string]string{"metallb.io/address-pool": "nowhere"}))
	lost := allocated(t, "lost", v1beta1.ReasonNoPool)
	if note := event(t, lost, v1beta1.ReasonNoPool); !strings.Contains(note, "nowhere") {
		t.Errorf("the Event %q does not name the pool", note)
	}
}

// A restart of the controller keeps every address.
func TestControllerRestartKeepsAddresses(t *testing.T) {
	before := webAddresses(t)
	labels := client.MatchingLabels{"app.kubernetes.io/component": "controller"}
	var pods corev1.PodList
	if err := cluster.List(t.Context(), &pods, client.InNamespace("fairlead-system"), labels); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		if err := cluster.Delete(t.Context(), &pods.Items[i]); err != nil {
			t.Fatal(err)
		}
	}
	// A new Service is proof that the new controller has been at work.
	create(t, newService("after-restart", nil))
	after := allocated(t, "after-restart", v1beta1.ReasonAddressAllocated)
	if now := webAddresses(t); !slices.Equal(before, now) {
		t.Errorf("the Service web had %v and now has %v", before, now)
	}
	if slices.Contains(before, addresses(after)[0]) {
		t.Errorf("the new Service was given %v, which web has", addresses(after))
	}
}

// inPod runs a command in the pod tester and fails if it does.
func inPod(t *testing.T, command ...string) string {
	t.Helper()
	return lab(t, append([]string{"kubectl", "exec", "tester", "--"}, command...)...)
}

// What Kubernetes promises about Services works through us: names, variables,
// node ports, UDP, and a reset where nobody serves.
func TestServicesInsideTheCluster(t *testing.T) {
	for _, name := range []string{"web", "web.default", "web.default.svc.cluster.local"} {
		if got := inPod(t, "fetch", "http://"+name+"/hostname"); !strings.HasPrefix(got, "web-") {
			t.Errorf("http://%s/hostname answered %q", name, got)
		}
	}
	svc, err := service(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"172.30.0.11", "172.30.0.12", "172.30.0.13"} {
		if _, err := fetch(t.Context(), "client", fmt.Sprintf("http://%s:%d/hostname", node, svc.Spec.Ports[0].NodePort)); err != nil {
			t.Errorf("the node port of %s: %v", node, err)
		}
	}
	if got := inPod(t, "fetch", "udp://"+svc.Spec.ClusterIP+":81/hostname"); !strings.HasPrefix(got, "web-") {
		t.Errorf("UDP to the ClusterIP answered %q", got)
	}
	refused := newService("refused", nil)
	refused.Spec.Selector = map[string]string{"app": "nobody"}
	create(t, refused)
	got := allocated(t, "refused", v1beta1.ReasonAddressAllocated)
	eventually(t, 10*time.Second, "a Service without endpoints refuses", func(ctx context.Context) error {
		out, err := fetch(ctx, "client", url(addresses(got)[0], "/"))
		// A reset, that is: what is dropped ends in "Connection timed out".
		if err == nil || !strings.Contains(out, "Couldn't connect to server") {
			return errors.New("curl says: " + out)
		}
		return nil
	})
}

// A second `make lab` takes under a minute and changes nothing.
func TestSecondDemoChangesNothing(t *testing.T) {
	before := everyPod(t)
	revision := lab(t, "helm", "list", "-n", "fairlead-system", "-o", "json")
	began := time.Now()
	lab(t, "demo")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the second demo took %s", took)
	}
	if after := everyPod(t); !maps.Equal(before, after) {
		t.Errorf("pods were %v and are %v", before, after)
	}
	if now := lab(t, "helm", "list", "-n", "fairlead-system", "-o", "json"); now != revision {
		t.Errorf("the release was %s and is %s", revision, now)
	}
}

// everyPod maps the pods of the cluster to their UIDs.
func everyPod(t *testing.T) map[string]string {
	t.Helper()
	var pods corev1.PodList
	if err := cluster.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			continue // it is on its way out, whatever the demo does
		}
		found[pod.Namespace+"/"+pod.Name] = string(pod.UID)
	}
	return found
}
