package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// churn changes endpoints all the time, kills the speaker now and then, and connects to Services that do not change.
type churn struct {
	settings
	plane    *plane
	fairlead *proxy
	began    time.Time

	mu   sync.Mutex
	next int // the next fresh endpoint
}

// outcome is what the client saw.
type outcome struct {
	connections int
	failed      map[string]int
	slow        int // took longer than a lost packet needs to be sent again
	slowest     time.Duration
	changes     int
	kills       int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d connections: %d failed %v, %d took over %s, the slowest %s; %d changes, the speaker killed %d times",
		o.connections, o.failures(), o.failed, o.slow, slowConnection, o.slowest.Round(time.Millisecond), o.changes, o.kills)
}

func (o outcome) failures() int {
	n := 0
	for _, count := range o.failed {
		n += count
	}
	return n
}

// slowConnection is a little less than a lost SYN needs to be sent again (RFC 6298).
const slowConnection = 900 * time.Millisecond

func churnCommand(ctx context.Context, s settings) error {
	c := &churn{settings: s, began: time.Now()}
	defer c.close()
	if err := c.open(ctx); err != nil {
		return err
	}
	c.say("%s of churn: %d changes a second over %d Services, %d connections a second", s.duration, s.rate, s.services, s.connects)
	found, err := c.run(ctx)
	if err != nil {
		return err
	}
	c.say("%s", found)
	checked, err := c.check(ctx)
	if err != nil {
		return err
	}
	c.say("%s", checked)
	if found.failures() > 0 {
		return errors.New("connections failed")
	}
	return nil
}

func (c *churn) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs load %s  %s\n", time.Since(c.began).Seconds(), load(), fmt.Sprintf(format, args...))
}

func (c *churn) close() {
	if c.fairlead != nil && c.fairlead.proc != nil {
		_ = c.fairlead.proc.kill()
	}
	if c.plane != nil {
		_ = c.plane.stop()
	}
	forgetGroups()
}

func (c *churn) open(ctx context.Context) error {
	var err error
	if c.plane, err = startPlane(ctx); err != nil {
		return err
	}
	if err := c.plane.makeProbe(ctx); err != nil {
		return err
	}
	if err := c.plane.fill(ctx, 0, c.services); err != nil {
		return err
	}
	s, err := newSide("fairlead", 1)
	if err != nil {
		return err
	}
	if err := s.serve(); err != nil {
		return err
	}
	if c.fairlead, err = newFairlead(c.plane, s, c.speaker); err != nil {
		return err
	}
	markers := []netip.Addr{netip.MustParseAddr(probeIP), crowdIP(0), crowdIP(c.services - 1)}
	took, err := c.fairlead.start(ctx, 5*time.Minute, markers)
	c.say("the speaker forwards after %.2fs", took.Wall.Seconds())
	return err
}

// run does it all at once for the duration.
func (c *churn) run(ctx context.Context) (outcome, error) {
	timed, cancel := context.WithTimeout(ctx, c.duration)
	defer cancel()
	var all, seen outcome
	group, timed := errgroup.WithContext(timed)
	group.Go(func() error {
		var err error
		all.changes, err = c.change(ctx, timed)
		return err
	})
	group.Go(func() error {
		var err error
		all.kills, err = c.kill(timed)
		return err
	})
	group.Go(func() error {
		var err error
		seen, err = c.client(timed)
		return err
	})
	err := group.Wait()
	seen.changes, seen.kills = all.changes, all.kills
	return seen, err
}

// kill ends the speaker without a warning, and starts it again at once.
func (c *churn) kill(ctx context.Context) (int, error) {
	tick := time.NewTicker(c.settings.kill)
	defer tick.Stop()
	for kills := 0; ; kills++ {
		select {
		case <-ctx.Done():
			return kills, nil
		case <-tick.C:
		}
		if err := c.fairlead.proc.running(); err != nil {
			return kills, err
		}
		if err := c.fairlead.proc.kill(); err != nil {
			return kills, err
		}
		if err := c.fairlead.launch(); err != nil {
			return kills, err
		}
	}
}

// client connects in turns by each way that there is to the Service whose endpoints stay.
func (c *churn) client(ctx context.Context) (outcome, error) {
	seen := outcome{failed: map[string]int{}}
	ways := []struct {
		pod bool
		to  netip.AddrPort
	}{
		{true, netip.MustParseAddrPort(fmt.Sprint(probeIP, ":", probePort))},
		{false, netip.MustParseAddrPort(fmt.Sprint(nodeAddress, ":", probeNodePort))},
		{true, netip.MustParseAddrPort(fmt.Sprint(probeBalancer, ":", probePort))},
		{false, netip.MustParseAddrPort(fmt.Sprint(probeBalancer, ":", probePort))},
	}
	var mu sync.Mutex
	group := errgroup.Group{}
	for _, way := range ways {
		ns := c.fairlead.client
		if way.pod {
			ns = c.fairlead.pod
		}
		group.Go(func() error {
			return in(ns, func() error {
				tick := time.NewTicker(time.Second * time.Duration(len(ways)) / time.Duration(c.connects))
				defer tick.Stop()
				for ctx.Err() == nil {
					<-tick.C
					began := time.Now()
					err := exchange(sockaddr(way.to))
					mu.Lock()
					seen.add(err, time.Since(began))
					mu.Unlock()
				}
				return nil
			})
		})
	}
	err := group.Wait()
	return seen, err
}

func (o *outcome) add(err error, took time.Duration) {
	o.connections++
	o.slowest = max(o.slowest, took)
	if err != nil {
		o.failed[err.Error()]++
	} else if took > slowConnection {
		o.slow++
	}
}

// exchange opens a connection, says a word, and waits until the endpoint closes it.
func exchange(to *unix.SockaddrInet4) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	err = uninterrupted(func() error { return unix.Connect(fd, to) })
	if err != nil && !errors.Is(err, unix.EISCONN) { // it was interrupted, and went on meanwhile
		return fmt.Errorf("connect: %w", err)
	}
	var n int
	err = uninterrupted(func() error {
		n, err = unix.Read(fd, make([]byte, 1))
		return err
	})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if n != 0 {
		return errors.New("the endpoint did not close")
	}
	return nil
}

// uninterrupted calls again what a signal has interrupted: the kernel does not do so by itself where a socket has a timeout
// (signal(7)), and Go sends its threads signals.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// change changes Services at the rate asked for until timed ends, and tells how often. What has begun is finished.
func (c *churn) change(ctx, timed context.Context) (int, error) {
	group := errgroup.Group{}
	var count [writers]int
	for w := range writers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			tick := time.NewTicker(time.Second * writers / time.Duration(c.rate))
			defer tick.Stop()
			for {
				select {
				case <-timed.Done():
					return nil
				case <-tick.C:
				}
				service := random.IntN(c.services/writers)*writers + w
				if err := c.changeOne(ctx, service, random); err != nil {
					return err
				}
				count[w]++
			}
		})
	}
	err := group.Wait()
	total := 0
	for _, n := range count {
		total += n
	}
	return total, err
}

// changeOne does one of the things that happen to Services.
func (c *churn) changeOne(ctx context.Context, service int, random *rand.Rand) error {
	const hundred, anew = 100, 2
	if random.IntN(hundred) < anew {
		return c.again(ctx, service)
	}
	slice, err := c.plane.slice(ctx, service)
	if err != nil {
		return err
	}
	slice.Endpoints = c.roll(slice.Endpoints, random)
	slice.Annotations = triggered(time.Now())
	slice.ResourceVersion = ""
	if _, err := c.plane.client.DiscoveryV1().EndpointSlices(crowdNamespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// again deletes a Service with its endpoints and makes it anew.
func (c *churn) again(ctx context.Context, service int) error {
	svc, slice := crowdService(service), crowdSlice(service)
	err := c.plane.client.CoreV1().Services(crowdNamespace).Delete(ctx, svc.Name, metav1.DeleteOptions{})
	err = errors.Join(err, c.plane.client.DiscoveryV1().EndpointSlices(crowdNamespace).Delete(ctx, slice.Name, metav1.DeleteOptions{}))
	if err != nil {
		return fmt.Errorf("delete Service %s: %w", svc.Name, err)
	}
	return c.plane.create(ctx, svc, slice)
}

// roll does what happens to the pods of a Service: one is replaced, comes, goes, ends slowly, or all of them go.
func (c *churn) roll(endpoints []discoveryv1.Endpoint, random *rand.Rand) []discoveryv1.Endpoint {
	const replaced, added, removed, ending, most = 60, 75, 88, 98, 30
	what := random.IntN(100)
	if len(endpoints) == 0 {
		what = replaced // none is left: one comes
	}
	switch at := random.IntN(max(1, len(endpoints))); {
	case what < replaced:
		endpoints[at] = c.fresh()
	case what < added && len(endpoints) < most:
		endpoints = append(endpoints, c.fresh())
	case what < removed:
		endpoints = append(endpoints[:at], endpoints[at+1:]...)
	case what < ending:
		endpoints[at].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
	default:
		endpoints = nil
	}
	return endpoints
}

func (c *churn) fresh() discoveryv1.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return newEndpoint(fresh(c.next%(1<<20)).String(), fmt.Sprintf("node-%d", c.next%fakeNodes), crowdNamespace)
}

// objects reads what the API server holds: every Service with its EndpointSlices.
func (p *plane) objects(ctx context.Context) (map[string]*corev1.Service, map[string][]*discoveryv1.EndpointSlice, error) {
	services, err := p.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list Services: %w", err)
	}
	slices, err := p.client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list EndpointSlices: %w", err)
	}
	all, endpoints := map[string]*corev1.Service{}, map[string][]*discoveryv1.EndpointSlice{}
	for i := range services.Items {
		svc := &services.Items[i]
		all[svc.Namespace+"/"+svc.Name] = svc
	}
	for i := range slices.Items {
		slice := &slices.Items[i]
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		endpoints[key] = append(endpoints[key], slice)
	}
	return all, endpoints, nil
}
