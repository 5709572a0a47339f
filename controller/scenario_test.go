package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

var update = flag.Bool("update", false, "rewrite the expected output of scenarios")

// TestScenarios runs testdata/*.txtar. A scenario is a sequence of steps 1, 2, …: N.yaml holds objects to make or
// replace, N.delete objects to delete (kind, namespace/name), N.advance how much time passes first, and N.out what is
// there afterwards and which Events were sent. The file class holds --load-balancer-class.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runScenario(t, file) })
	}
}

func runScenario(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage()
	for i := range archive.Files {
		f := &archive.Files[i]
		kind := strings.TrimLeft(f.Name, "0123456789")
		switch kind {
		case "class":
			s.class = strings.TrimSpace(string(f.Data))
		case ".yaml":
			s.apply(t, f.Data)
		case ".delete":
			s.delete(t, string(f.Data))
		case ".advance":
			d, err := time.ParseDuration(strings.TrimSpace(string(f.Data)))
			if err != nil {
				t.Fatal(err)
			}
			s.now = s.now.Add(d)
		case ".restart": // the controller forgets what it remembers
			s.leases, s.terms = nil, nil
		case ".out":
			got := s.run(t)
			if *update {
				f.Data = []byte(got)
			} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.Name, diff)
			}
		default:
			t.Fatalf("what is %s?", f.Name)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// stage is an API server without a server: what reconcile.go does, with nothing in between.
type stage struct {
	class      string
	start, now time.Time
	services   map[string]*corev1.Service
	namespaces map[string]labels.Set
	pools      map[string]v1beta1.IPAddressPool
	l2         map[string]v1beta1.L2Advertisement
	routers    map[string]v1beta1.BGPPeer
	bgp        map[string]v1beta1.BGPAdvertisement
	profiles   map[string]v1beta1.BFDProfile
	aliases    map[string]v1beta1.Community
	speakers   map[string]v1beta1.Speaker
	nodes      map[string]corev1.Node
	cidrs      map[string][]string
	leases     []lease
	terms      map[types.NamespacedName]uint64
	births     int
}

func newStage() *stage {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &stage{
		start: start, now: start,
		services: map[string]*corev1.Service{}, namespaces: map[string]labels.Set{}, pools: map[string]v1beta1.IPAddressPool{},
		l2: map[string]v1beta1.L2Advertisement{}, speakers: map[string]v1beta1.Speaker{}, nodes: map[string]corev1.Node{},
		cidrs: map[string][]string{}, routers: map[string]v1beta1.BGPPeer{}, bgp: map[string]v1beta1.BGPAdvertisement{},
		profiles: map[string]v1beta1.BFDProfile{}, aliases: map[string]v1beta1.Community{},
	}
}

func (s *stage) apply(t *testing.T, data []byte) {
	t.Helper()
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(document, &head); err != nil || head.Kind == "" {
			t.Fatalf("read %s: %v", document, err)
		}
		s.applyOne(t, head, document)
	}
}

func (s *stage) applyOne(t *testing.T, head metav1.PartialObjectMetadata, document []byte) {
	t.Helper()
	switch head.Kind {
	case "Service":
		s.applyService(t, document)
	case "IPAddressPool":
		pool := parse[v1beta1.IPAddressPool](t, document)
		old := s.pools[pool.Name]
		pool.Status, pool.Finalizers, pool.DeletionTimestamp = old.Status, old.Finalizers, old.DeletionTimestamp
		s.pools[pool.Name] = pool
	case "L2Advertisement":
		l2 := parse[v1beta1.L2Advertisement](t, document)
		l2.Status = s.l2[l2.Name].Status
		s.l2[l2.Name] = l2
	case "BGPPeer":
		peer := parse[v1beta1.BGPPeer](t, document)
		peer.Status, peer.CreationTimestamp = s.routers[peer.Name].Status, metav1.NewTime(s.start)
		s.routers[peer.Name] = peer
	case "BGPAdvertisement":
		bgp := parse[v1beta1.BGPAdvertisement](t, document)
		bgp.Status = s.bgp[bgp.Name].Status
		s.bgp[bgp.Name] = bgp
	case "BFDProfile":
		profile := parse[v1beta1.BFDProfile](t, document)
		profile.Status = s.profiles[profile.Name].Status
		s.profiles[profile.Name] = profile
	case "Community":
		community := parse[v1beta1.Community](t, document)
		community.Status = s.aliases[community.Name].Status
		s.aliases[community.Name] = community
	case "Speaker":
		s.speakers[head.Name] = parse[v1beta1.Speaker](t, document)
	case "Node":
		s.nodes[head.Name] = parse[corev1.Node](t, document)
	case "Namespace":
		s.namespaces[head.Name] = head.Labels
	case "ServiceCIDR":
		s.cidrs[head.Name] = parse[networkingv1.ServiceCIDR](t, document).Spec.CIDRs
	default:
		t.Fatalf("what is a %s?", head.Kind)
	}
}

// applyService does what the API server does to a Service: the status stays, families have a default.
func (s *stage) applyService(t *testing.T, document []byte) {
	t.Helper()
	service := parse[corev1.Service](t, document)
	if service.Namespace == "" {
		service.Namespace = "default"
	}
	if len(service.Spec.IPFamilies) == 0 {
		service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	key := service.Namespace + "/" + service.Name
	if old, ok := s.services[key]; ok {
		service.CreationTimestamp = old.CreationTimestamp
		service.Status = old.Status
		service.ManagedFields = old.ManagedFields
		if from, ok := old.Annotations[config.AllocatedFrom]; ok {
			metav1.SetMetaDataAnnotation(&service.ObjectMeta, config.AllocatedFrom, from)
		}
	} else {
		s.births++
		service.CreationTimestamp = metav1.NewTime(s.start.Add(time.Duration(s.births) * time.Second))
	}
	s.services[key] = &service
}

func parse[T any](t *testing.T, document []byte) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		t.Fatalf("read %s: %v", document, err)
	}
	return object
}

func (s *stage) delete(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		kind, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "Service":
			delete(s.services, name)
		case "IPAddressPool":
			s.deletePool(name)
		case "Speaker":
			delete(s.speakers, name)
		default:
			t.Fatalf("cannot delete a %s", kind)
		}
	}
}

// deletePool does what the API server does: a pool goes when it has no finalizers.
func (s *stage) deletePool(name string) {
	pool := s.pools[name]
	if len(pool.Finalizers) == 0 {
		delete(s.pools, name)
		return
	}
	now := metav1.NewTime(s.now)
	pool.DeletionTimestamp = &now
	s.pools[name] = pool
}

// world reads the stage as reconcile.go reads the cache.
func (s *stage) world() world {
	w := world{now: s.now, leases: s.leases, terms: s.terms}
	w.pools, w.l2, w.speakers = values(s.pools), values(s.l2), values(s.speakers)
	w.routing = routing{values(s.routers), values(s.bgp), values(s.profiles), values(s.aliases)}
	w.readConfig(taken(values(s.nodes), s.cidrs))
	for _, service := range values(s.services) {
		if e, ok := readEntry(service, s.class); ok {
			w.services = append(w.services, e)
		}
	}
	slices.SortFunc(w.services, compareEntries)
	if s.leases == nil {
		w.leases = readLeases(w.pools)
	}
	return w
}

// run decides and writes until nothing changes, and tells what happened.
func (s *stage) run(t *testing.T) string {
	t.Helper()
	var events []string
	for range 20 {
		w := s.world()
		o := decide(w, s.namespaces)
		s.leases, s.terms = append([]lease{}, o.leases...), o.terms
		if len(o.services) == 0 && len(o.pools) == 0 && len(o.l2) == 0 && len(o.routing) == 0 {
			return s.print(events)
		}
		for _, change := range o.services {
			service := change.applied()
			s.services[service.Namespace+"/"+service.Name] = service
			events = append(events, eventLines("Service "+service.Namespace+"/"+service.Name, change.events)...)
		}
		for _, change := range o.pools {
			s.pools[change.pool.Name] = change.pool
			if !change.pool.DeletionTimestamp.IsZero() {
				s.deletePool(change.pool.Name)
			}
			events = append(events, eventLines("IPAddressPool "+change.pool.Name, change.events)...)
		}
		for _, change := range o.l2 {
			s.l2[change.l2.Name] = change.l2
			events = append(events, eventLines("L2Advertisement "+change.l2.Name, change.events)...)
		}
		for _, change := range o.routing {
			switch object := change.object.(type) {
			case *v1beta1.BGPPeer:
				s.routers[object.Name] = *object
			case *v1beta1.BGPAdvertisement:
				s.bgp[object.Name] = *object
			case *v1beta1.BFDProfile:
				s.profiles[object.Name] = *object
			case *v1beta1.Community:
				s.aliases[object.Name] = *object
			}
			events = append(events, eventLines(change.kind+" "+change.object.GetName(), change.events)...)
		}
	}
	t.Fatal("does not come to rest")
	return ""
}

func eventLines(object string, events []event) []string {
	var lines []string
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("Event %s: %s %s: %s", object, e.kind, e.reason, e.note))
	}
	return lines
}

func (s *stage) print(events []string) string {
	var b strings.Builder
	for _, service := range values(s.services) {
		fmt.Fprintf(&b, "Service %s/%s:", service.Namespace, service.Name)
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			fmt.Fprintf(&b, " %s", ingress.IP)
		}
		if from, ok := service.Annotations[config.AllocatedFrom]; ok {
			fmt.Fprintf(&b, " (%s)", from)
		}
		b.WriteString("\n")
		printConditions(&b, service.Status.Conditions, func(c metav1.Condition) bool { return c.Reason != v1beta1.ReasonPending })
	}
	for _, pool := range values(s.pools) {
		fmt.Fprintf(&b, "IPAddressPool %s: IPv4 %d used %d free, IPv6 %d used %d free\n", pool.Name,
			pool.Status.AssignedIPv4, pool.Status.AvailableIPv4, pool.Status.AssignedIPv6, pool.Status.AvailableIPv6)
		printConditions(&b, pool.Status.Conditions, isBad)
		for _, l := range pool.Status.Leases {
			fmt.Fprintf(&b, "  Lease %s %s", l.Address, l.Service)
			if l.ReleasedAt != nil {
				fmt.Fprintf(&b, " released after %s", l.ReleasedAt.Sub(s.start))
			}
			b.WriteString("\n")
		}
	}
	for _, l2 := range values(s.l2) {
		fmt.Fprintf(&b, "L2Advertisement %s:\n", l2.Name)
		printConditions(&b, l2.Status.Conditions, func(metav1.Condition) bool { return true })
	}
	s.printRouting(&b)
	for _, line := range events {
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (s *stage) printRouting(b *strings.Builder) {
	all := func(metav1.Condition) bool { return true }
	for _, peer := range values(s.routers) {
		fmt.Fprintf(b, "BGPPeer %s: %d of %d\n", peer.Name, peer.Status.Established, peer.Status.Nodes)
		printConditions(b, peer.Status.Conditions, all)
	}
	for _, bgp := range values(s.bgp) {
		fmt.Fprintf(b, "BGPAdvertisement %s:\n", bgp.Name)
		printConditions(b, bgp.Status.Conditions, all)
	}
	for _, profile := range values(s.profiles) {
		fmt.Fprintf(b, "BFDProfile %s:\n", profile.Name)
		printConditions(b, profile.Status.Conditions, all)
	}
	for _, community := range values(s.aliases) {
		fmt.Fprintf(b, "Community %s:\n", community.Name)
		printConditions(b, community.Status.Conditions, all)
	}
}

func printConditions(b *strings.Builder, conditions []metav1.Condition, interesting func(metav1.Condition) bool) {
	for _, c := range conditions {
		if interesting(c) {
			fmt.Fprintf(b, "  %s %s %s: %s\n", strings.TrimPrefix(c.Type, v1beta1.Group+"/"), c.Status, c.Reason, c.Message)
		}
	}
}

// values returns the values of a map in the order of its keys.
func values[V any](m map[string]V) []V {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var all []V
	for _, key := range keys {
		all = append(all, m[key])
	}
	return all
}

// TestEveryReasonHasAScenario asserts that each reason the controller gives appears in the output of a scenario.
func TestEveryReasonHasAScenario(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".out") {
				all.Write(f.Data)
			}
		}
	}
	for _, reason := range []string{
		v1beta1.ReasonAddressAllocated, v1beta1.ReasonAddressKept, v1beta1.ReasonAddressReleased, v1beta1.ReasonNoPool,
		v1beta1.ReasonPoolExhausted, v1beta1.ReasonPoolNotAllowed, v1beta1.ReasonAddressNotInPool, v1beta1.ReasonAddressInUse,
		v1beta1.ReasonAddressReserved, v1beta1.ReasonAddressCooling, v1beta1.ReasonSharingRefused, v1beta1.ReasonFamilyUnavailable,
		v1beta1.ReasonRequestInvalid, v1beta1.ReasonStatusOwnedByOther, v1beta1.ReasonAnnounced, v1beta1.ReasonNotAnnounced,
		v1beta1.ReasonNoSpeaker, v1beta1.ReasonReady, v1beta1.ReasonRangeInvalid, v1beta1.ReasonRangeRefused,
		v1beta1.ReasonReservationInvalid, v1beta1.ReasonSelectorInvalid, v1beta1.ReasonPoolEmpty, v1beta1.ReasonOverlap,
		v1beta1.ReasonNoOverlap, v1beta1.ReasonDraining, v1beta1.ReasonNotDraining, v1beta1.ReasonPoolNotFound,
		v1beta1.ReasonSettingInvalid, v1beta1.ReasonBFDProfileNotFound, v1beta1.ReasonDuplicatePeer, v1beta1.ReasonDuplicateCommunity,
		v1beta1.ReasonCommunityNotFound, v1beta1.ReasonPeerNotFound, v1beta1.ReasonAggregationRefused, v1beta1.ReasonEstablished,
		v1beta1.ReasonSessionDown, v1beta1.ReasonNoSession,
	} {
		if !strings.Contains(all.String(), " "+reason+": ") {
			t.Errorf("no scenario for %s", reason)
		}
	}
}
