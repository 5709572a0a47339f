package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/speaker/forward"
	"github.com/fairlead/fairlead/speaker/nft"
)

// check compares what the kernel holds with what the API server's objects ask for, in two ways: by the translation and
// the read-back that the speaker uses, which must find no element to change; and by following each frontend in the
// kernel to its endpoints, which shares nothing with them.
func (c *churn) check(ctx context.Context) (string, error) {
	if err := c.caughtUp(ctx); err != nil {
		return "", err
	}
	services, endpoints, err := c.plane.objects(ctx)
	if err != nil {
		return "", err
	}
	have, err := frontendsOf(c.fairlead.side)
	if err != nil {
		return "", err
	}
	if diff := cmp.Diff(plainTranslation(services, endpoints), have, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		return "", fmt.Errorf("frontends in the kernel (-want +got):\n%s", diff)
	}
	if err := c.fairlead.proc.kill(); err != nil {
		return "", err
	}
	c.fairlead.proc = nil
	before, err := classesOf(c.fairlead.side)
	if err != nil {
		return "", err
	}
	reached, err := translateOnto(ctx, c.fairlead.side, services, endpoints)
	if err != nil {
		return "", err
	}
	after, err := classesOf(c.fairlead.side)
	if err != nil {
		return "", err
	}
	// Numbers of endpoints that no Service has any more stay known until the next start.
	if unused := before - after; reached.Added+reached.Rules != 0 || reached.Deleted != unused {
		return "", fmt.Errorf("the kernel's table is not the translation: %d elements were missing, %d too many (%d are classes no longer used), %d rules",
			reached.Added, reached.Deleted, unused, reached.Rules)
	}
	return fmt.Sprintf("the kernel's table is the translation of %d Services: all %d elements, %d frontends and %d endpoints among them (and %d of classes no longer used)",
		reached.Services, reached.Elements, reached.Frontends, reached.Endpoints, before-after), nil
}

// caughtUp waits until the speaker has done all that was asked of it so far: it may just have been started again, on a
// machine that gives it little time. What it learns of each kind comes in order, so once a new Service is in the kernel
// with an endpoint, all that was written before is, too.
func (c *churn) caughtUp(ctx context.Context) error {
	a, err := watchArrivals(c.fairlead.node)
	if err != nil {
		return err
	}
	defer func() { _ = a.close() }()
	arrived := [...]<-chan time.Time{a.expect(crowdIP(c.services)), a.expect(crowdEndpoint(c.services, 0))}
	if err := c.plane.create(ctx, crowdService(c.services), crowdSlice(c.services)); err != nil {
		return err
	}
	for i, what := range []netip.Addr{crowdIP(c.services), crowdEndpoint(c.services, 0)} {
		if _, err := await(ctx, arrived[i], what); err != nil {
			return err
		}
	}
	return c.fairlead.quiet(ctx)
}

// translateOnto makes a node's kernel hold the translation and tells what was not so.
func translateOnto(ctx context.Context, s *side, services map[string]*corev1.Service, endpoints map[string][]*discoveryv1.EndpointSlice) (nft.Report, error) {
	var reached nft.Report
	err := in(s.node, func() error {
		table, err := nft.Open(slog.New(slog.DiscardHandler), nil)
		if err != nil {
			return err
		}
		defer func() { _ = table.Close() }()
		wish := nft.Wish{Static: static(), Changed: map[string]nft.Service{}, Full: true}
		for key, svc := range services {
			wish.Changed[key] = forward.Service(svc, endpoints[key], theNode(), nft.Random).Wish
		}
		reached, err = table.Apply(ctx, wish)
		return err
	})
	return reached, err
}

// noEndpoints stands for a frontend that rejects.
const noEndpoints = "rejects"

// plainTranslation is what the Services of this program ask for, in the simplest words: frontend -> endpoints, sorted.
func plainTranslation(services map[string]*corev1.Service, endpoints map[string][]*discoveryv1.EndpointSlice) map[string][]string {
	want := map[string][]string{}
	for key, svc := range services {
		if svc.Spec.ClusterIP == "" {
			continue
		}
		addresses := []string{svc.Spec.ClusterIP}
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			addresses = append(addresses, ingress.IP)
		}
		for _, port := range svc.Spec.Ports {
			backends := plainEndpoints(endpoints[key], port)
			for _, address := range addresses {
				want[frontend(address, port.Protocol, int(port.Port))] = backends
			}
		}
	}
	return want
}

func frontend(address string, protocol corev1.Protocol, port int) string {
	return fmt.Sprintf("%s %s %d", address, strings.ToLower(string(protocol)), port)
}

// plainEndpoints are those that are ready, else those that end but still serve.
func plainEndpoints(found []*discoveryv1.EndpointSlice, port corev1.ServicePort) []string {
	var ready, serving []string
	for _, slice := range found {
		for _, p := range slice.Ports {
			if *p.Name != port.Name {
				continue
			}
			for _, e := range slice.Endpoints {
				at := fmt.Sprintf("%s:%d", e.Addresses[0], *p.Port)
				switch {
				case *e.Conditions.Ready:
					ready = append(ready, at)
				case *e.Conditions.Serving:
					serving = append(serving, at)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	if len(ready) == 0 {
		return []string{noEndpoints}
	}
	slices.Sort(ready)
	return slices.Compact(ready)
}

// frontendsOf follows each frontend in a node's kernel: frontend -> token -> class and target -> endpoints.
func frontendsOf(s *side) (map[string][]string, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(s.node)))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}
	read := func(set string) []nftables.SetElement {
		found, failed := conn.GetSetElements(&nftables.Set{Table: table, Name: set})
		err = errors.Join(err, failed)
		return found
	}
	const classBits, word = 13, 4
	led := map[uint32]int{} // by target, which frontends may share
	chains, backends, out := map[uint32]string{}, map[[2]uint32]string{}, map[string][]string{}
	for _, e := range read("classes") {
		chains[binary.NativeEndian.Uint32(e.Key)] = chainOf(e.Val)
	}
	for _, e := range read("endpoints") {
		at := [2]uint32{binary.NativeEndian.Uint32(e.Key) >> classBits, binary.NativeEndian.Uint32(e.Key[word:])}
		backends[at] = fmt.Sprintf("%s:%d", netip.AddrFrom4([4]byte(e.Val[:word])), binary.BigEndian.Uint16(e.Val[word:]))
	}
	for _, e := range read("frontends") {
		protocol := map[byte]corev1.Protocol{6: corev1.ProtocolTCP, 17: corev1.ProtocolUDP}[e.Key[word]]
		name := frontend(netip.AddrFrom4([4]byte(e.Key[:word])).String(), protocol, int(binary.BigEndian.Uint16(e.Key[2*word:])))
		token := binary.NativeEndian.Uint32(e.Val)
		out[name] = followed(chains[token&(1<<classBits-1)], token>>classBits, backends)
		if out[name][0] != noEndpoints {
			led[token>>classBits] = len(out[name])
		}
	}
	all := 0
	for _, n := range led {
		all += n
	}
	if all != len(backends) {
		err = errors.Join(err, fmt.Errorf("%d endpoints in the kernel, but frontends lead to %d", len(backends), all))
	}
	return out, err
}

// classesOf counts how a node's kernel knows to treat a packet.
func classesOf(s *side) (int, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(s.node)))
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	count := 0
	for _, set := range []string{"classes", "plain-classes"} {
		found, failed := conn.GetSetElements(&nftables.Set{Table: &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}, Name: set})
		err = errors.Join(err, failed)
		count += len(found)
	}
	return count, err
}

// chainOf reads the chain out of a verdict's attributes; "" for a verdict without one.
func chainOf(verdict []byte) string {
	attributes, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return ""
	}
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_VERDICT_CHAIN {
			return attributes.String()
		}
	}
	return ""
}

// followed lists the endpoints that a chain chooses from; its name ends with how many there are.
func followed(chain string, target uint32, backends map[[2]uint32]string) []string {
	_, number, _ := strings.Cut(chain, "-")
	slots, err := strconv.Atoi(number)
	if err != nil || slots == 0 {
		return []string{noEndpoints}
	}
	var found []string
	for i := range slots {
		found = append(found, backends[[2]uint32{target, uint32(i)}])
	}
	slices.Sort(found)
	return found
}
