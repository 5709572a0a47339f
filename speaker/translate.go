package main

import (
	"context"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/speaker/forward"
	"github.com/fairlead/fairlead/speaker/health"
	"github.com/fairlead/fairlead/speaker/nft"
)

// wish translates what must be translated: everything if full or if what all
// translations share has changed, else what is dirty and what a dead node touches.
func (f *forwarding) wish(ctx context.Context, env environment, full bool) (nft.Wish, error) {
	everything := full || !env.sameForServices(f.env)
	changed, triggers := f.dirty.take()
	f.triggers = append(f.triggers, triggers...)
	if len(changed) > 0 || everything {
		f.health.Queued()
	}
	if everything {
		keys, err := f.read.serviceKeys(ctx)
		if err != nil {
			return nft.Wish{}, err
		}
		for key := range f.known { // also those that are gone
			changed = append(changed, key)
		}
		changed = append(changed, keys...)
		slices.Sort(changed)
		changed = slices.Compact(changed)
	}
	results, err := f.translate(ctx, changed, env.Node)
	if err != nil {
		f.dirty.add(changed...)
		return nft.Wish{}, err
	}
	wish := nft.Wish{Static: env.Static, Changed: make(map[string]nft.Service, len(changed)), Full: full}
	for i, key := range changed {
		wish.Changed[key] = results[i].Wish
		f.remember(key, results[i])
	}
	if f.announce == nil {
		f.announce = &announced{withoutNodes(f.balancers, env), withoutNodes(f.pinged, env)}
	}
	wish.Static.Announced, wish.Static.Echo = f.announce.all, f.announce.pinged
	return wish, nil
}

// fewServices are translated sooner than others can be asked to help.
const fewServices = 200

// translate translates Services, on all processors if they are many.
func (f *forwarding) translate(ctx context.Context, keys []string, node forward.Node) ([]translation, error) {
	results := make([]translation, len(keys))
	workers := 1
	if len(keys) > fewServices {
		workers = runtime.GOMAXPROCS(0)
	}
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			for i := w; i < len(keys); i += workers {
				var err error
				if results[i], err = f.read.translate(ctx, keys[i], node); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return results, group.Wait()
}

// startGarbage is how much garbage, in percent of what is in use, is let be until the first table is in the kernel: what a
// start reads and makes is mostly kept, and looking through all of it again and again took a quarter of the start's time.
const startGarbage = 400

// hurry makes the garbage collector look seldom, until the first round.
func (f *forwarding) hurry() { f.garbage = debug.SetGCPercent(startGarbage) }

// relax ends the hurry, once.
func (f *forwarding) relax() {
	if f.garbage == 0 {
		return
	}
	debug.SetGCPercent(f.garbage)
	f.garbage = 0
}

// remember keeps what health checks and status need of a translation.
func (f *forwarding) remember(key string, result translation) {
	anew, pinged := f.balancers.give(key, result.Balancers), f.pinged.give(key, result.pinged())
	if anew || pinged {
		f.announce = nil
	}
	f.troubles.set(key, result.Reasons)
	delete(f.checks, key)
	delete(f.known, key)
	if result.Wish.IsZero() {
		return
	}
	f.known[key] = true
	if port := result.Summary.HealthCheckNodePort; port != 0 {
		name := splitKey(key)
		f.checks[key] = health.Check{
			Namespace: name.Namespace, Name: name.Name, Port: port, LocalEndpoints: result.Summary.LocalReady,
		}
	}
}

// announced are the addresses of load balancers that the rules know.
type announced struct {
	all, pinged []netip.Addr
}

// withoutNodes are the addresses that are none of a node, sorted.
func withoutNodes(s *shared, env environment) []netip.Addr {
	all := s.addresses()
	for _, addr := range slices.Concat(env.Nodes, env.Node.Addresses) {
		if i, found := slices.BinarySearchFunc(all, addr, netip.Addr.Compare); found {
			all = slices.Delete(all, i, i+1)
		}
	}
	return all
}
