package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// bench is one run of the command.
type bench struct {
	settings
	plane         *plane
	bare, one     *side // no rules at all; a single rule
	kubeProxy     *proxy
	fairlead      *proxy
	began         time.Time
	next          int // the next fresh endpoint
	crowd         int // Services in the API server
	everyMeasured []figures
	before        kept // what the page has of other sizes
}

// figures are what was measured at one size.
type figures struct {
	services            int
	on                  string   // the day
	load                []string // when it began, and when it ended
	kubeProxy, fairlead proxyFigures
	apply               samples // the speaker's change of one endpoint in the kernel alone
	traffic             traffic
}

// proxyFigures are one program's.
type proxyFigures struct {
	cold                []coldStart
	resident, anonymous float64 // after the last cold start
	later               float64 // resident, after all changes
	tables              float64 // kernel memory
	write, event        samples // of one change: until the kernel has it, since the write began and since a watcher saw it
	changeCPU           samples // of one change
	burst               []burst
}

// compare measures both programs at each size.
func compare(ctx context.Context, s settings) error {
	b := &bench{settings: s, began: time.Now()}
	defer b.close()
	if err := b.open(ctx); err != nil {
		return err
	}
	for _, n := range s.sizes {
		found, err := b.measure(ctx, n)
		if err != nil {
			return fmt.Errorf("measure with %d Services: %w", n, err)
		}
		b.everyMeasured = append(b.everyMeasured, found)
		if err := b.publish(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs load %s  %s\n", time.Since(b.began).Seconds(), load(), fmt.Sprintf(format, args...))
}

func (b *bench) open(ctx context.Context) error {
	b.say("starting an API server")
	var err error
	if b.plane, err = startPlane(ctx); err != nil {
		return err
	}
	if err := b.plane.makeProbe(ctx); err != nil {
		return err
	}
	sides := make([]*side, 4)
	for i, name := range []string{"bare", "one", "kube-proxy", "fairlead"} {
		if sides[i], err = newSide(name, i+1); err == nil {
			err = sides[i].serve()
		}
		if err != nil {
			return err
		}
	}
	b.bare, b.one = sides[0], sides[1]
	if err := b.one.oneRule(); err != nil {
		return err
	}
	if b.kubeProxy, err = newKubeProxy(b.plane, sides[2]); err != nil {
		return err
	}
	b.fairlead, err = newFairlead(b.plane, sides[3], b.speaker)
	if err == nil && b.profile != "" {
		b.fairlead.args = append(b.fairlead.args, "--profiling")
	}
	return err
}

func (b *bench) close() {
	for _, x := range []*proxy{b.kubeProxy, b.fairlead} {
		if x != nil && x.proc != nil {
			_ = x.proc.kill()
		}
	}
	if b.plane != nil {
		_ = b.plane.stop()
	}
	forgetGroups()
}

// measure measures everything with so many Services.
func (b *bench) measure(ctx context.Context, n int) (figures, error) {
	f := figures{services: n, on: time.Now().UTC().Format(time.DateOnly)}
	b.say("%d Services: filling the API server", n)
	if err := b.plane.fill(ctx, b.crowd, n); err != nil {
		return f, err
	}
	b.crowd = n
	f.load = append(f.load, load())
	var err error
	if f.apply, err = b.applies(n); err != nil {
		return f, err
	}
	if err := b.coldStarts(ctx, n, &f); err != nil {
		return f, err
	}
	if err := b.changes(ctx, n, &f); err != nil {
		return f, err
	}
	if err := b.bursts(ctx, n, &f); err != nil {
		return f, err
	}
	if err := b.weighLater(&f); err != nil {
		return f, err
	}
	b.say("%d Services: packets", n)
	if f.traffic, err = b.packets(ctx); err != nil {
		return f, err
	}
	for x, to := range map[*proxy]*proxyFigures{b.kubeProxy: &f.kubeProxy, b.fairlead: &f.fairlead} {
		if err := x.proc.kill(); err != nil {
			return f, err
		}
		to.tables = kernelMemory(x.name)
	}
	f.load = append(f.load, load())
	return f, nil
}

// longStart is from when on a cold start is not repeated.
const longStart = 20 * time.Second

// coldStarts starts the programs in turns, with nothing in the kernel. The last start is left running.
func (b *bench) coldStarts(ctx context.Context, n int, f *figures) error {
	for run := range b.runs {
		for x, to := range b.inTurns(f, run) {
			if last := len(to.cold) - 1; last >= 0 && to.cold[last].Wall > longStart {
				continue
			}
			if err := x.forget(ctx); err != nil {
				return err
			}
			profiled := b.profiled(ctx, x, fmt.Sprintf("start-%d.pb.gz", n), "profile?seconds=5")
			took, err := x.start(ctx, time.Hour, b.markers(n))
			if err = errors.Join(err, profiled()); err != nil {
				return err
			}
			if err := x.quiet(ctx); err != nil { // the program may still have to count a child's time as its own
				return err
			}
			if took.CPU, err = x.proc.cpu(); err != nil {
				return err
			}
			to.cold = append(to.cold, took)
			b.say("%d Services: cold start of %s: %.2fs, %.2fs user, %.2fs kernel", n, x.name,
				took.Wall.Seconds(), took.CPU.User.Seconds(), took.CPU.Kernel.Seconds())
			if err := to.weigh(x.proc); err != nil {
				return err
			}
			b.say("%d Services: %s resident, of which %s anonymous", n, mebibytes(to.resident), mebibytes(to.anonymous))
			if err := b.profiled(ctx, x, fmt.Sprintf("heap-%d.pb.gz", n), "heap")(); err != nil {
				return err
			}
		}
	}
	return nil
}

// inTurns calls with each program; while one is at work, the other stands still. Who comes first alternates.
func (b *bench) inTurns(f *figures, turn int) func(yield func(*proxy, *proxyFigures) bool) {
	return func(yield func(*proxy, *proxyFigures) bool) {
		both := []*proxy{b.kubeProxy, b.fairlead}
		to := []*proxyFigures{&f.kubeProxy, &f.fairlead}
		for i := range both {
			at := (i + turn) % len(both)
			if other := both[1-at].proc; other != nil {
				_ = other.pause()
			}
			if own := both[at].proc; own != nil {
				_ = own.resume()
			}
			more := yield(both[at], to[at])
			if other := both[1-at].proc; other != nil {
				_ = other.resume()
			}
			if !more {
				return
			}
		}
	}
}

// markers are ClusterIPs that the kernel must have once a program is done: some of the crowd's, and the last.
func (b *bench) markers(n int) []netip.Addr {
	found := []netip.Addr{netip.MustParseAddr(probeIP)}
	for i := range 10 {
		found = append(found, crowdIP(i*n/10))
	}
	return append(found, crowdIP(n-1))
}

// weigh reads the memory of a program that has nothing to do.
func (f *proxyFigures) weigh(proc *process) error {
	resident, err := proc.memory("VmRSS")
	anonymous, other := proc.memory("RssAnon")
	f.resident, f.anonymous = float64(resident), float64(anonymous)
	return errors.Join(err, other)
}

// weighLater does so again after all changes.
func (b *bench) weighLater(f *figures) error {
	for x, to := range b.inTurns(f, 0) {
		resident, err := x.proc.memory("VmRSS")
		if err != nil {
			return err
		}
		to.later = float64(resident)
	}
	return nil
}
