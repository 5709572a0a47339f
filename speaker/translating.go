package main

import (
	"context"
	"net/netip"
	"slices"

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
	wish := nft.Wish{Static: env.Static, Changed: map[string]nft.Service{}, Full: full}
	if everything {
		keys, err := f.read.serviceKeys(ctx)
		if err != nil {
			return wish, err
		}
		for key := range f.known { // also those that are gone
			changed = append(changed, key)
		}
		changed = append(changed, keys...)
	}
	for _, key := range changed {
		if _, done := wish.Changed[key]; done {
			continue
		}
		result, err := f.read.translate(ctx, key, env.Node)
		if err != nil {
			f.dirty.add(changed...)
			return wish, err
		}
		wish.Changed[key] = result.Wish
		f.remember(key, result)
	}
	if f.announce == nil {
		f.announce = &announced{withoutNodes(f.balancers, env), withoutNodes(f.pinged, env)}
	}
	wish.Static.Announced, wish.Static.Echo = f.announce.all, f.announce.pinged
	return wish, nil
}

// remember keeps what health checks and status need of a translation.
func (f *forwarding) remember(key string, result translation) {
	anew, pinged := f.balancers.give(key, result.Balancers), f.pinged.give(key, result.pinged())
	if anew || pinged {
		f.announce = nil
	}
	if !slices.Equal(f.problems[key], result.Reasons) {
		f.listed = nil
	}
	delete(f.problems, key)
	if len(result.Reasons) > 0 {
		f.problems[key] = result.Reasons
	}
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
	return slices.DeleteFunc(s.addresses(), func(addr netip.Addr) bool {
		return slices.Contains(env.Nodes, addr) || slices.Contains(env.Node.Addresses, addr)
	})
}
