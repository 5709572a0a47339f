package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// arrivalPatience is how long a change may take to the kernel: at 30,000 Services kube-proxy needs a minute for each round,
// and changes that come within one wait for the next.
const arrivalPatience = 20 * time.Minute

// Single changes end after so long, if there were so many by then.
const (
	changesTime = 5 * time.Minute
	changesDo   = 5
)

// sightings notes when a watcher of the API server sees a change of one EndpointSlice.
type sightings struct {
	plane *plane
	name  string
	seen  chan time.Time
}

// sightings watches until ctx ends.
func (p *plane) sightings(ctx context.Context, name string) (*sightings, error) {
	s := &sightings{plane: p, name: name, seen: make(chan time.Time, 1000)}
	w, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	go s.run(ctx, w)
	return s, nil
}

func (s *sightings) open(ctx context.Context) (watch.Interface, error) {
	w, err := s.plane.client.DiscoveryV1().EndpointSlices(crowdNamespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + s.name})
	if err != nil {
		return nil, fmt.Errorf("watch EndpointSlices: %w", err)
	}
	return w, nil
}

// run watches again when the API server ends a watch.
func (s *sightings) run(ctx context.Context, w watch.Interface) {
	for {
		for event := range w.ResultChan() {
			if event.Type == watch.Modified {
				s.seen <- time.Now()
			}
		}
		var err error
		if w, err = s.open(ctx); err != nil {
			return
		}
	}
}

// next returns when the next change was seen; not ok if it was not seen within a moment.
func (s *sightings) next() (time.Time, bool) {
	select {
	case at := <-s.seen:
		return at, true
	case <-time.After(time.Second):
		return time.Time{}, false
	}
}

// changes measures single changes of one Service in the middle, in turns: kube-proxy collects
// changes for a second after each, so it gets that second before the next one.
func (b *bench) changes(ctx context.Context, n int, f *figures) error {
	const turns, kubeProxyTimes, fairleadTimes = 1, 20, 200
	for turn := range turns {
		for x, to := range b.inTurns(f, turn) {
			if err := x.settle(ctx); err != nil {
				return err
			}
			times, pause := fairleadTimes, 20*time.Millisecond
			if x == b.kubeProxy {
				times, pause = kubeProxyTimes, 1200*time.Millisecond
			}
			if err := b.changeTimes(ctx, x, to, n/2, times, pause); err != nil {
				return err
			}
		}
	}
	b.say("%d Services: one change from the write to the kernel: kube-proxy %s, Fairlead %s", n,
		f.kubeProxy.write.spread(duration), f.fairlead.write.spread(duration))
	return nil
}

func (b *bench) changeTimes(ctx context.Context, x *proxy, to *proxyFigures, service, times int, pause time.Duration) error {
	a, err := watchArrivals(x.node)
	if err != nil {
		return err
	}
	defer func() { _ = a.close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := b.plane.sightings(ctx, crowdSlice(service).Name)
	if err != nil {
		return err
	}
	slice, err := b.plane.slice(ctx, service)
	if err != nil {
		return err
	}
	before, err := x.proc.cpu()
	if err != nil {
		return err
	}
	began, done := time.Now(), 0
	for ; done < times && (done < changesDo || time.Since(began) < changesTime); done++ {
		wait(ctx, pause)
		address := b.fresh()
		arrived := a.expect(address)
		wrote := time.Now()
		if slice, err = b.plane.change(ctx, slice, done%each, address); err != nil {
			return err
		}
		at, err := await(ctx, arrived, address)
		if err != nil {
			return fmt.Errorf("%w; the last words of %s:\n%s", err, x.name, lastLines(x.proc.log, 20))
		}
		to.write = append(to.write, at.Sub(wrote).Seconds())
		if seen, ok := s.next(); ok {
			to.event = append(to.event, at.Sub(seen).Seconds())
		}
	}
	if err := x.quiet(ctx); err != nil {
		return err
	}
	after, err := x.proc.cpu()
	to.changeCPU = append(to.changeCPU, after.minus(before).total().Seconds()/float64(done))
	return err
}

// fresh is an endpoint that nobody had yet.
func (b *bench) fresh() netip.Addr {
	b.next++
	return fresh(b.next)
}

func (p *plane) slice(ctx context.Context, service int) (*discoveryv1.EndpointSlice, error) {
	name := crowdSlice(service).Name
	slice, err := p.client.DiscoveryV1().EndpointSlices(crowdNamespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get EndpointSlice %s: %w", name, err)
	}
	return slice, nil
}

func await(ctx context.Context, arrived <-chan time.Time, address netip.Addr) (time.Time, error) {
	patience := time.NewTimer(arrivalPatience)
	defer patience.Stop()
	select {
	case at := <-arrived:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	case <-patience.C:
		return time.Time{}, fmt.Errorf("endpoint %s did not come to the kernel within %s", address, arrivalPatience)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// burst is what many changes in a second took.
type burst struct {
	writing time.Duration // until the API server had all of them
	last    time.Duration // from the last write until the kernel had all of them
	cpu     cpu
}

// burstSize is how many changes are to happen in a second.
const burstSize = 1000

// bursts changes so many endpoints within a second, of as many Services as there are, in turns.
func (b *bench) bursts(ctx context.Context, n int, f *figures) error {
	for turn := range b.runs {
		for x, to := range b.inTurns(f, turn) {
			if err := x.settle(ctx); err != nil {
				return err
			}
			profiled := b.profiled(ctx, x, fmt.Sprintf("burst-%d.pb.gz", n), "profile?seconds=3")
			found, err := b.burst(ctx, x, n)
			if err = errors.Join(err, profiled()); err != nil {
				return err
			}
			to.burst = append(to.burst, found)
			b.say("%d Services: %d changes by %s: written in %.2fs, in the kernel %.3fs later, %.2fs user, %.2fs kernel", n, burstSize,
				x.name, found.writing.Seconds(), found.last.Seconds(), found.cpu.User.Seconds(), found.cpu.Kernel.Seconds())
		}
	}
	return nil
}

func (b *bench) burst(ctx context.Context, x *proxy, n int) (burst, error) {
	a, err := watchArrivals(x.node)
	if err != nil {
		return burst{}, err
	}
	defer func() { _ = a.close() }()
	var arrived [burstSize]<-chan time.Time
	var addresses [burstSize]netip.Addr
	for i := range arrived {
		addresses[i] = b.fresh()
		arrived[i] = a.expect(addresses[i])
	}
	before, err := x.proc.cpu()
	if err != nil {
		return burst{}, err
	}
	began := time.Now()
	if err := b.writeBurst(ctx, began, n, addresses[:]); err != nil {
		return burst{}, err
	}
	written := time.Now()
	last := written
	for i := range arrived {
		at, err := await(ctx, arrived[i], addresses[i])
		if err != nil {
			return burst{}, err
		}
		if at.After(last) {
			last = at
		}
	}
	if err := x.quiet(ctx); err != nil {
		return burst{}, err
	}
	after, err := x.proc.cpu()
	return burst{written.Sub(began), last.Sub(written), after.minus(before)}, err
}

// writeBurst writes change i at the i-th thousandth of a second, or as soon after as the API server allows. Changes of
// the same Service come from the same writer, one after the other.
func (b *bench) writeBurst(ctx context.Context, began time.Time, n int, addresses []netip.Addr) error {
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		group.Go(func() error {
			for i, address := range addresses {
				service, e := i%n, i/n%each
				if service%writers != w {
					continue
				}
				wait(ctx, time.Until(began.Add(time.Duration(i)*time.Second/burstSize)))
				if err := b.plane.replace(ctx, service, e, address); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// replace changes an endpoint whatever else the slice was changed to before by this run.
func (p *plane) replace(ctx context.Context, service, e int, to netip.Addr) error {
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/%d/addresses/0","value":%q},
{"op":"replace","path":"/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time","value":%q}]`,
		e, to, time.Now().UTC().Format(time.RFC3339Nano))
	return p.patch(ctx, service, patch)
}
