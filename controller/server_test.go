package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// TestOnAPIServer runs the controller, with its generated roles, against a real API server.
func TestOnAPIServer(t *testing.T) {
	p := startPlane(t)
	program := p.buildController(t)
	controller := p.run(t, program)

	t.Run("the gossip key is made once", func(t *testing.T) {
		var secret corev1.Secret
		eventually(t, 30*time.Second, func() error {
			return p.admin.Get(context.Background(), client.ObjectKey{Namespace: testNamespace, Name: gossipSecret}, &secret)
		})
		if len(secret.Data["key"]) != gossipLength {
			t.Errorf("the key has %d bytes, want %d", len(secret.Data["key"]), gossipLength)
		}
	})
	t.Run("manifests for MetalLB work after changing one line", func(t *testing.T) { checkMetalLBManifest(t, p) })
	t.Run("what kubectl prints of MetalLB can be moved as the page says", func(t *testing.T) { checkMigration(t, p) })
	t.Run("kubectl is told what is wrong", func(t *testing.T) { checkRefused(t, p) })
	t.Run("a Service gets an address", func(t *testing.T) { checkAddress(t, p) })
	t.Run("a Service that changes its type gives it back", func(t *testing.T) { checkReleased(t, p) })
	t.Run("another controller's status stays", func(t *testing.T) { checkForeign(t, p) })
	t.Run("ranges of the cluster itself are refused", func(t *testing.T) { checkTaken(t, p) })
	again := func() { p.run(t, program, "--leader-elect=false") } // it outlives the subtest that starts it
	t.Run("a cooldown outlives the controller", func(t *testing.T) { checkCooldown(t, p, controller, again) })
	t.Run("MetalLB's manifests for BGP work after changing one line", func(t *testing.T) { checkBGPManifests(t, p) })
	t.Run("nothing is written when nothing changes", func(t *testing.T) { checkSilence(t, p) })
	t.Run("the log has one line for each change and no complaint", func(t *testing.T) { checkLog(t, p) })
}

func checkCooldown(t *testing.T, p *plane, controller *exec.Cmd, again func()) {
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "cooling"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"198.51.100.1"}
	pool.Spec.Cooldown = &metav1.Duration{Duration: time.Hour}
	p.create(t, pool)
	first, second := loadBalancer("first"), loadBalancer("second")
	for _, service := range []*corev1.Service{first, second} {
		policy := corev1.IPFamilyPolicySingleStack
		service.Spec.IPFamilyPolicy = &policy
		service.Annotations = map[string]string{"fairlead.dev/address-pool": "cooling"}
	}
	p.create(t, first)
	p.expect(t, "first", v1beta1.ReasonAddressAllocated, "198.51.100.1")
	eventually(t, 10*time.Second, func() error { // the lease is written a moment after the address
		if err := p.admin.Get(context.Background(), client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		if len(pool.Status.Leases) != 1 || pool.Status.Leases[0].Service != "default/first" {
			return fmt.Errorf("leases %v", pool.Status.Leases)
		}
		return nil
	})
	_ = controller.Process.Kill()
	if err := p.admin.Delete(context.Background(), first); err != nil { // while nobody looks
		t.Fatal(err)
	}
	p.create(t, second)
	again()
	p.expect(t, "second", v1beta1.ReasonPoolExhausted)
	first.UID = ""
	p.create(t, first)
	p.expect(t, "first", v1beta1.ReasonAddressAllocated, "198.51.100.1")
}

// checkSilence asserts that no object changes for a while.
func checkSilence(t *testing.T, p *plane) {
	versions := func() map[string]string {
		all := map[string]string{}
		for _, list := range []client.ObjectList{&corev1.ServiceList{}, &v1beta1.IPAddressPoolList{}, &v1beta1.L2AdvertisementList{}, &v1beta1.BGPPeerList{}, &v1beta1.BGPAdvertisementList{}} {
			if err := p.admin.List(context.Background(), list); err != nil {
				t.Fatal(err)
			}
			err := meta.EachListItem(list, func(object apiruntime.Object) error {
				o, err := meta.Accessor(object)
				if err == nil {
					all[fmt.Sprintf("%T/%s", object, o.GetName())] = o.GetResourceVersion()
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	var before map[string]string
	quiet := 0
	eventually(t, time.Minute, func() error { // 30 looks, a tenth of a second apart
		now := versions()
		if diff := cmp.Diff(before, now); diff != "" {
			before, quiet = now, 0
			return fmt.Errorf("something changes (-before +now):\n%s", diff)
		}
		if quiet++; quiet < 30 {
			return fmt.Errorf("quiet for %d looks", quiet)
		}
		return nil
	})
}

// checkLog asserts that the controller's log is quiet: its role lets it do all it wants to do.
func checkLog(t *testing.T, p *plane) {
	log, err := os.ReadFile(filepath.Join(p.dir, "controller.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(log) == 0 {
		t.Error("the log is empty")
	}
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, "level=INFO") || !strings.Contains(line, " reason=") {
			t.Errorf("the log says: %s", line)
		}
	}
}

func checkMetalLBManifest(t *testing.T, p *plane) {
	const manifest = `
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata:
  name: first-pool
  namespace: metallb-system
spec:
  addresses:
  - 192.168.10.0/24
  - 192.168.9.1-192.168.9.5
  - fc00:f853:0ccd:e799::/124
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata:
  name: example
  namespace: metallb-system
spec:
  ipAddressPools:
  - first-pool
`
	for range 2 { // applying again changes nothing
		if out, err := p.kubectl(t, manifest, "apply", "-f", "-"); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
	}
	if out, err := p.kubectl(t, "", "wait", "--for=condition=Ready", "--timeout=20s", "fairlead", "--all"); err != nil {
		t.Errorf("wait: %v\n%s", err, out)
	}
	out, err := p.kubectl(t, "", "get", "fairlead", "--no-headers")
	if err != nil || !strings.Contains(out, "ipaddresspool.fairlead.dev/first-pool   True   Ready   0     261   0     16") {
		t.Errorf("get fairlead: %v\n%s", err, out)
	}
}

// checkBGPManifests applies what is about BGP, and waits until each object says how it stands. Sessions there are none:
// no speaker runs.
func checkBGPManifests(t *testing.T, p *plane) {
	text, err := os.ReadFile("../config/testdata/metallb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if strings.Contains(document, "kind: BGP") || strings.Contains(document, "kind: BFD") || strings.Contains(document, "kind: Community") {
			documents = append(documents, document)
		}
	}
	manifest := regexp.MustCompile(`apiVersion: metallb.io/.*`).ReplaceAllString(strings.Join(documents, "\n---\n"), "apiVersion: fairlead.dev/v1beta1")
	if out, err := p.kubectl(t, manifest, "apply", "-f", "-"); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	const verdict = `--for=jsonpath={.status.conditions[?(@.type=="%s")].status}=%s`
	for _, wait := range [][]string{
		{fmt.Sprintf(verdict, "Ready", "True"), "bgppeer/simple", "bgppeer/with-options", "bgppeer/unnumbered", "bgpadvertisement/local", "bfdprofile/full", "community/communities"},
		{fmt.Sprintf(verdict, "Ready", "False"), "bgppeer/with-secret", "bgpadvertisement/nodes-and-peers", "bgpadvertisement/external"}, // simple is the same router; peers are not there; 192.168.9.0/24 is not all ours
		{fmt.Sprintf(verdict, "Established", "False"), "bgppeer", "--all"},
	} {
		if out, err := p.kubectl(t, "", append([]string{"wait", "--timeout=40s"}, wait...)...); err != nil {
			t.Errorf("wait: %v\n%s", err, out)
		}
	}
	out, err := p.kubectl(t, "", "get", "bgppeer", "with-options", "--no-headers")
	if want := "with-options   True   Ready   172.30.0.3         0     0     testbfdprofile   "; err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("get bgppeer: %v\n%s, want\n%s", err, out, want)
	}
}

// checkMigration runs the command of docs/migrating-from-metallb.md on what kubectl prints where MetalLB is installed.
func checkMigration(t *testing.T, p *plane) {
	const printed = `apiVersion: v1
items:
- apiVersion: metallb.io/v1beta1
  kind: IPAddressPool
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"annotations":{},"name":"moved","namespace":"metallb-system"},"spec":{"addresses":["203.0.113.8/30"]}}
    creationTimestamp: "2026-01-01T00:00:00Z"
    generation: 3
    name: moved
    namespace: metallb-system
    resourceVersion: "4711"
    uid: 00000000-0000-0000-0000-000000000001
  spec:
    addresses:
    - 203.0.113.8/30
    autoAssign: false
    avoidBuggyIPs: false
  status:
    assignedIPv4: 2
    assignedIPv6: 0
    availableIPv4: 2
    availableIPv6: 0
kind: List
metadata:
  resourceVersion: ""
`
	page, err := os.ReadFile("../docs/migrating-from-metallb.md")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(page), "-o yaml |\n")
	command, _, found := strings.Cut(command, " > pools.yaml")
	if !found {
		t.Fatal("the page has no such command any more")
	}
	sed := exec.Command("bash", "-c", command)
	sed.Stdin = strings.NewReader(printed)
	moved, err := sed.Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if out, err := p.kubectl(t, string(moved), "apply", "-f", "-"); err != nil {
		t.Errorf("apply: %v\n%s\n%s", err, out, moved)
	}
	if out, err := p.kubectl(t, "", "wait", "--for=condition=Ready", "--timeout=20s", "ipaddresspool", "moved"); err != nil {
		t.Errorf("wait: %v\n%s", err, out)
	}
}

func checkRefused(t *testing.T, p *plane) {
	out, err := p.kubectl(t, `
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: {name: wrong}
spec: {addresses: [192.168.1.240-250]}
`, "apply", "-f", "-")
	const want = `The IPAddressPool "wrong" is invalid: spec.addresses[0]: Invalid value: "192.168.1.240-250": "192.168.1.240-250" is not a range of addresses: write a CIDR such as 192.168.10.0/24 or fd00:10::/112, or first-last such as 192.168.10.5-192.168.10.20`
	if diff := cmp.Diff(want, strings.TrimSpace(out)); err == nil || diff != "" {
		t.Errorf("kubectl says (-want +got), %v:\n%s", err, diff)
	}
}

func loadBalancer(name string) *corev1.Service {
	policy := corev1.IPFamilyPolicyPreferDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &policy, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// get reads a Service.
func (p *plane) get(t *testing.T, name string) *corev1.Service {
	t.Helper()
	service := &corev1.Service{}
	if err := p.admin.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: name}, service); err != nil {
		t.Fatal(err)
	}
	return service
}

// expect waits until a Service has these addresses, and its condition Allocated this reason.
func (p *plane) expect(t *testing.T, name, reason string, addresses ...string) *corev1.Service {
	t.Helper()
	var service *corev1.Service
	eventually(t, 20*time.Second, func() error {
		service = p.get(t, name)
		var got []string
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			got = append(got, ingress.IP)
		}
		gotReason := ""
		if condition := meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAllocated); condition != nil {
			gotReason = condition.Reason
		}
		if !slices.Equal(got, addresses) || gotReason != reason {
			return fmt.Errorf("%s has %v, %q; want %v, %q", name, got, gotReason, addresses, reason)
		}
		return nil
	})
	return service
}

func checkAddress(t *testing.T, p *plane) {
	p.create(t, loadBalancer("web"))
	service := p.expect(t, "web", v1beta1.ReasonAddressAllocated, "192.168.10.0", "fc00:f853:ccd:e799::")
	if from := service.Annotations[config.AllocatedFrom]; from != "first-pool" {
		t.Errorf("annotation %s is %q", config.AllocatedFrom, from)
	}
	eventually(t, 10*time.Second, func() error {
		var events eventsv1.EventList
		if err := p.admin.List(context.Background(), &events, client.InNamespace("default")); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Name == "web" && e.Reason == v1beta1.ReasonAddressAllocated && e.Type == corev1.EventTypeNormal {
				return nil
			}
		}
		return fmt.Errorf("no Event in %d", len(events.Items))
	})
	metav1.SetMetaDataAnnotation(&service.ObjectMeta, "metallb.io/loadBalancerIPs", "192.168.9.3,fc00:f853:ccd:e799::9")
	if err := p.admin.Update(context.Background(), service); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "web", v1beta1.ReasonAddressAllocated, "192.168.9.3", "fc00:f853:ccd:e799::9")
}

func checkReleased(t *testing.T, p *plane) {
	service := p.get(t, "web")
	service.Spec.Type = corev1.ServiceTypeClusterIP
	if err := p.admin.Update(context.Background(), service); err != nil {
		t.Fatal(err)
	}
	service = p.expect(t, "web", "")
	if from, ok := service.Annotations[config.AllocatedFrom]; ok {
		t.Errorf("annotation %s is left: %q", config.AllocatedFrom, from)
	}
	if len(service.Status.Conditions) > 0 {
		t.Errorf("conditions are left: %v", service.Status.Conditions)
	}
}

func checkForeign(t *testing.T, p *plane) {
	service := loadBalancer("foreign")
	service.Spec.Type = corev1.ServiceTypeClusterIP
	p.create(t, service)
	service.Spec.Type = corev1.ServiceTypeLoadBalancer
	class := "example.com/other" // so that Fairlead does not come first
	service.Spec.LoadBalancerClass = &class
	if err := p.admin.Update(context.Background(), service); err != nil {
		t.Fatal(err)
	}
	p.create(t, loadBalancer("plain"))
	p.expect(t, "plain", v1beta1.ReasonAddressAllocated, "192.168.10.0", "fc00:f853:ccd:e799::")
	plain := p.get(t, "plain")
	plain.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	if err := p.admin.Status().Update(context.Background(), plain, client.FieldOwner("cloud-provider")); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "plain", v1beta1.ReasonStatusOwnedByOther, "203.0.113.1")
	plain = p.get(t, "plain")
	metav1.SetMetaDataAnnotation(&plain.ObjectMeta, "fairlead.dev/take-over", "true")
	if err := p.admin.Update(context.Background(), plain); err != nil {
		t.Fatal(err)
	}
	// the address is in no pool, but it is the one the Service has
	p.expect(t, "plain", v1beta1.ReasonAddressKept, "203.0.113.1", "fc00:f853:ccd:e799::")
	if got := p.get(t, "foreign").Status; len(got.Conditions) > 0 || len(got.LoadBalancer.Ingress) > 0 {
		t.Errorf("a Service of another class has %v", got)
	}
}

func checkTaken(t *testing.T, p *plane) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}}}
	p.create(t, node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.30.0.11"}}
	if err := p.admin.Status().Update(context.Background(), node); err != nil {
		t.Fatal(err)
	}
	for name, addresses := range map[string]string{"on-node": "172.30.0.0/24", "on-pods": "10.244.1.128/25", "on-services": "10.96.5.0/24"} {
		pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pool.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(addresses)}
		p.create(t, pool)
		eventually(t, 20*time.Second, func() error {
			if err := p.admin.Get(context.Background(), client.ObjectKey{Name: name}, pool); err != nil {
				return err
			}
			ready := meta.FindStatusCondition(pool.Status.Conditions, v1beta1.ConditionReady)
			if ready == nil || ready.Reason != v1beta1.ReasonRangeRefused {
				return fmt.Errorf("%s: %v", name, ready)
			}
			return nil
		})
	}
}
