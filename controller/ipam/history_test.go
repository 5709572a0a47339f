package ipam

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// history is a small cluster to which random things happen. Grants are written one Service at a time, and not always
// all of them: a controller may die at any point.
type history struct {
	now      time.Time
	pools    map[string]v1beta1.IPAddressPool
	services map[types.NamespacedName]*service
	released []Release
	births   int
}

// service is a Service with what only the test knows of it.
type service struct {
	Claim
	settled bool // it had all it asks for, and has asked for nothing else since
	tainted bool // its terms of sharing changed while it may have shared
}

func (h *history) config() config.Config {
	var objects config.Objects
	for _, pool := range h.pools {
		objects.Pools = append(objects.Pools, pool)
	}
	c, _ := config.Read(objects)
	return c
}

func (h *history) claims() []Claim {
	var claims []Claim
	for _, s := range h.services {
		claims = append(claims, s.Claim)
	}
	slices.SortFunc(claims, func(a, b Claim) int { return compareServices(a.Service, b.Service) }) // histories must repeat
	return claims
}

// write applies one grant as the controller does, remembering what is given back.
func (h *history) write(c config.Config, g Grant) {
	s := h.services[g.Service]
	for _, addr := range s.Held {
		if !slices.Contains(g.Addrs, addr) && !h.heldByOther(g.Service, addr) {
			h.released = append(h.released, Release{addr, g.Service, h.now})
		}
	}
	s.Held, s.From = g.Addrs, g.Pools
	s.Changed = false
	t := newTable(c, h.claims(), h.released, h.now)
	t.seatHolders()
	i := slices.IndexFunc(t.claims, func(c *Claim) bool { return c.Service == g.Service })
	d := t.look(i, nil)
	s.settled = d.satisfied() && !slices.ContainsFunc(d.kept, func(a netip.Addr) bool { return !d.fills(a) })
	if !h.illegal(s) {
		s.tainted = false
	}
}

func (h *history) heldByOther(name types.NamespacedName, addr netip.Addr) bool {
	for other, s := range h.services {
		if other != name && slices.Contains(s.Held, addr) {
			return true
		}
	}
	return false
}

// illegal reports whether a Service has an address together with another one that does not agree.
func (h *history) illegal(s *service) bool {
	for _, addr := range s.Held {
		for _, other := range h.services {
			if other.Service != s.Service && slices.Contains(other.Held, addr) && shareRefusal(&s.Claim, &other.Claim) != "" {
				return true
			}
		}
	}
	return false
}

var (
	namespaces = rapid.SampledFrom([]string{"default", "iot"})
	keys       = rapid.SampledFrom([]string{"", "", "a", "b"})
	poolNames  = rapid.SampledFrom([]string{"attic", "barn", "cellar"})
	ranges     = rapid.SampledFrom([]v1beta1.AddressRange{
		"10.0.0.0/30", "10.0.0.2-10.0.0.5", "10.0.0.4/30", "10.0.0.254-10.0.1.1", "fd00::/127", "fd00::2-fd00::4",
	})
	addresses = rapid.SampledFrom([]netip.Addr{
		netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.5"),
		netip.MustParseAddr("10.0.1.0"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::3"), netip.MustParseAddr("10.9.9.9"),
	})
	families = rapid.SampledFrom([]config.Wish{
		{Families: []config.Family{config.IPv4}},
		{Families: []config.Family{config.IPv6}},
		{Families: []config.Family{config.IPv4, config.IPv6}, Need: config.NeedAny},
		{Families: []config.Family{config.IPv6, config.IPv4}, Need: config.NeedAll},
	})
)

// ask draws what a Service asks for.
func ask(t *rapid.T, c *Claim) {
	f := families.Draw(t, "families")
	c.Families, c.Need = f.Families, f.Need
	c.Pools, c.Addresses = nil, nil
	switch rapid.IntRange(0, 3).Draw(t, "asks for") {
	case 0:
		c.Pools = []string{poolNames.Draw(t, "pool")}
	case 1:
		for _, addr := range rapid.SliceOfNDistinct(addresses, 1, 2, rapid.ID).Draw(t, "addresses") {
			if slices.Contains(c.Families, config.FamilyOf(addr)) {
				c.Addresses = append(c.Addresses, addr)
			}
		}
		slices.SortFunc(c.Addresses, netip.Addr.Compare)
	}
}

// terms draws on which terms a Service shares.
func terms(t *rapid.T, c *Claim) {
	port := rapid.Int32Range(80, 82).Draw(t, "port")
	c.Sharing = config.Sharing{Key: keys.Draw(t, "key"), Ports: []config.Port{{Protocol: corev1.ProtocolTCP, Number: port}}}
	if rapid.Bool().Draw(t, "across") {
		c.Sharing.Namespaces = []string{"default", "iot"}
	}
	if rapid.IntRange(0, 3).Draw(t, "local") == 0 {
		c.Sharing.Local, c.Sharing.Selector = true, rapid.SampledFrom([]string{"app=a", "app=b"}).Draw(t, "selector")
	}
}

func (h *history) any(t *rapid.T) *service {
	var names []types.NamespacedName
	for name := range h.services {
		names = append(names, name)
	}
	if len(names) == 0 {
		t.Skip("no Service")
	}
	slices.SortFunc(names, compareServices)
	return h.services[rapid.SampledFrom(names).Draw(t, "Service")]
}

func (h *history) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create a Service": h.create,
		"create another":   h.create,
		"delete a Service": func(t *rapid.T) {
			s := h.any(t)
			delete(h.services, s.Service)
			for _, addr := range s.Held {
				if !h.heldByOther(s.Service, addr) {
					h.released = append(h.released, Release{addr, s.Service, h.now})
				}
			}
		},
		"ask for something else": func(t *rapid.T) {
			s := h.any(t)
			ask(t, &s.Claim)
			s.settled = false
		},
		"change the terms of sharing": func(t *rapid.T) {
			s := h.any(t)
			terms(t, &s.Claim)
			s.Changed, s.tainted = true, true
		},
		"make or change a pool": func(t *rapid.T) {
			name := poolNames.Draw(t, "pool")
			pool := drawPool(t, name)
			pool.DeletionTimestamp = h.pools[name].DeletionTimestamp // whoever writes to a pool that goes does not stop it
			h.pools[name] = pool
		},
		"delete a pool at once": func(t *rapid.T) { delete(h.pools, poolNames.Draw(t, "pool")) },
		"delete a pool": func(t *rapid.T) {
			name := poolNames.Draw(t, "pool")
			pool, exists := h.pools[name]
			if !exists {
				t.Skip("there is none")
			}
			now := metav1.NewTime(h.now)
			pool.DeletionTimestamp = &now
			h.pools[name] = pool
		},
		"time passes": func(t *rapid.T) {
			h.now = h.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
		},
		"decide": func(t *rapid.T) { h.decide(t, rapid.IntRange(0, 10).Draw(t, "written")) },
		"decide in full": func(t *rapid.T) {
			h.decide(t, len(h.services))
		},
		"": func(t *rapid.T) { h.check(t) },
	}
}

func (h *history) create(t *rapid.T) {
	name := types.NamespacedName{Namespace: namespaces.Draw(t, "namespace"), Name: fmt.Sprintf("s%d", rapid.IntRange(0, 9).Draw(t, "name"))}
	if _, exists := h.services[name]; exists {
		t.Skip("exists")
	}
	h.births++
	s := &service{Claim: Claim{Wish: config.Wish{Service: name, Created: time.Unix(int64(h.births/2), 0)}}}
	s.NamespaceLabels = labels.Set{"name": name.Namespace}
	ask(t, &s.Claim)
	terms(t, &s.Claim)
	h.services[name] = s
}

func drawPool(t *rapid.T, name string) v1beta1.IPAddressPool {
	auto := rapid.IntRange(0, 4).Draw(t, "auto") > 0
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pool.Spec.Addresses = rapid.SliceOfN(ranges, 1, 3).Draw(t, "ranges")
	pool.Spec.AutoAssign = &auto
	pool.Spec.AvoidBuggyIPs = rapid.Bool().Draw(t, "avoid")
	if rapid.IntRange(0, 3).Draw(t, "cools") == 0 {
		pool.Spec.Cooldown = &metav1.Duration{Duration: time.Minute}
	}
	if rapid.IntRange(0, 3).Draw(t, "restricted") == 0 {
		pool.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{Priority: rapid.Int32Range(0, 2).Draw(t, "priority"), Namespaces: []string{namespaces.Draw(t, "for")}}
	}
	if rapid.IntRange(0, 3).Draw(t, "reserves") == 0 {
		pool.Spec.Reservations = []v1beta1.Reservation{{Address: addresses.Draw(t, "reserved").String(), Namespace: "default", Name: "s1"}}
	}
	return pool
}

// decide runs Assign and writes some of what it says, asserting that nothing settled moves and every new address is
// legal.
func (h *history) decide(t *rapid.T, writes int) {
	c, claims := h.config(), h.claims()
	grants := Assign(c, claims, h.released, h.now)
	shuffled := rapid.Permutation(claims).Draw(t, "order")
	if diff := cmp.Diff(grants, Assign(c, shuffled, h.released, h.now), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Fatalf("the order of claims matters (-want +got):\n%s", diff)
	}
	for _, g := range grants {
		h.checkStays(t, g)
		h.checkNew(t, c, g)
		h.checkCool(t, c, g, grants)
	}
	for i, at := range rapid.Permutation(indices(len(grants))).Draw(t, "writes") {
		if i < writes {
			h.write(c, grants[at])
		}
	}
	h.letGo(c, grants)
}

// letGo lets pools go that are being deleted and that nobody holds an address of.
func (h *history) letGo(c config.Config, grants []Grant) {
	for _, usage := range Use(c, grants) {
		if pool := h.pools[usage.Pool]; !pool.DeletionTimestamp.IsZero() && len(usage.Holders) == 0 {
			delete(h.pools, usage.Pool)
		}
	}
}

func indices(n int) []int {
	var all []int
	for i := range n {
		all = append(all, i)
	}
	return all
}

// checkStays asserts that a Service which has what it asks for keeps it, and that one which asks for something else is
// not left with less than it had.
func (h *history) checkStays(t *rapid.T, g Grant) {
	s := h.services[g.Service]
	if s.tainted {
		return
	}
	for _, family := range s.Families {
		of := func(a netip.Addr) bool { return config.FamilyOf(a) == family }
		if slices.ContainsFunc(s.Held, of) && !slices.ContainsFunc(g.Addrs, of) {
			t.Fatalf("%s had %v and is left with %v: no %s", g.Service, s.Held, g.Addrs, family)
		}
	}
	if !s.settled {
		return
	}
	if len(g.Addrs) < len(s.Held) {
		t.Fatalf("%s had %v and is left with %v", g.Service, s.Held, g.Addrs)
	}
	for _, addr := range s.Held {
		if !slices.Contains(g.Addrs, addr) {
			t.Fatalf("%s moved from %v to %v", g.Service, s.Held, g.Addrs)
		}
	}
}

// checkNew asserts that an address which is new to a Service is one it may have.
func (h *history) checkNew(t *rapid.T, c config.Config, g Grant) {
	s := h.services[g.Service]
	for _, addr := range g.Addrs {
		if slices.Contains(s.Held, addr) {
			continue
		}
		in, ok := c.PoolOf(addr)
		if !ok {
			t.Fatalf("%s got %s, which is in no pool", g.Service, addr)
		}
		pool, named := c.Pools[in], slices.Contains(s.Addresses, addr)
		owner, reserved := pool.Reservations[addr]
		switch {
		case pool.Deleting:
			t.Fatalf("%s got %s of %s, which is being deleted", g.Service, addr, pool.Name)
		case reserved && owner != g.Service:
			t.Fatalf("%s got %s, which is reserved for %s", g.Service, addr, owner)
		case len(s.Pools) > 0 && !slices.Contains(s.Pools, pool.Name):
			t.Fatalf("%s asks for %v and got %s of %s", g.Service, s.Pools, addr, pool.Name)
		case !reserved && pool.Allocation != nil && !slices.Contains(pool.Allocation.Namespaces, g.Service.Namespace):
			t.Fatalf("%s got %s of %s, which does not allow it", g.Service, addr, pool.Name)
		case !reserved && !named && len(s.Pools) == 0 && !pool.AutoAssign:
			t.Fatalf("%s got %s of %s without asking", g.Service, addr, pool.Name)
		case !reserved && !named && pool.AvoidBuggy && config.Buggy(addr):
			t.Fatalf("%s got %s of %s, which avoids it", g.Service, addr, pool.Name)
		}
	}
}

// checkCool asserts that an address which was given back is not handed to another Service during its cooldown, unless
// the one that gave it back has it again and shares it.
func (h *history) checkCool(t *rapid.T, c config.Config, g Grant, all []Grant) {
	for _, r := range h.released {
		if r.Service == g.Service || !slices.Contains(g.Addrs, r.Addr) || slices.Contains(h.services[g.Service].Held, r.Addr) {
			continue
		}
		in, _ := c.PoolOf(r.Addr)
		back := slices.ContainsFunc(all, func(other Grant) bool { return other.Service == r.Service && slices.Contains(other.Addrs, r.Addr) })
		if h.now.Before(r.At.Add(c.Pools[in].Cooldown)) && !back && !h.heldSince(r) {
			t.Fatalf("%s got %s, which %s gave back at %s", g.Service, r.Addr, r.Service, r.At)
		}
	}
}

// heldSince reports whether an address was given to somebody after it was released: its cooldown is history then.
func (h *history) heldSince(r Release) bool {
	if h.heldByOther(types.NamespacedName{}, r.Addr) {
		return true
	}
	return slices.ContainsFunc(h.released, func(later Release) bool { return later.Addr == r.Addr && later != r && !later.At.Before(r.At) })
}

// check asserts what must hold at all times: nobody shares an address against his will, unless he changed his terms
// after he got it.
func (h *history) check(t *rapid.T) {
	for _, s := range h.services {
		for _, addr := range s.Held {
			for _, other := range h.services {
				if other.Service == s.Service || !slices.Contains(other.Held, addr) || s.tainted || other.tainted {
					continue
				}
				if why := shareRefusal(&s.Claim, &other.Claim); why != "" {
					t.Fatalf("%s and %s both have %s: %s", s.Service, other.Service, addr, why)
				}
			}
		}
	}
}

// settle decides and writes until nothing changes, which must happen, and asserts that nothing changes then.
func (h *history) settle(t *rapid.T) {
	c := h.config()
	var last []Grant
	for range len(h.services) + 3 {
		grants := Assign(c, h.claims(), h.released, h.now)
		if cmp.Equal(last, grants, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			h.checkReasons(t, c, grants)
			return
		}
		for _, g := range grants {
			h.write(c, g)
		}
		last = grants
	}
	t.Fatalf("%d Services do not come to rest", len(h.services))
}

// checkReasons asserts that whoever waits has a reason, and that one who is told a pool is exhausted is told the truth.
func (h *history) checkReasons(t *rapid.T, c config.Config, grants []Grant) {
	for _, g := range grants {
		if g.Reason == v1beta1.ReasonPending || g.Message == "" {
			t.Fatalf("%s waits without a reason: %+v", g.Service, g)
		}
		s := h.services[g.Service]
		if g.OK != (g.Reason == v1beta1.ReasonAddressAllocated || g.Reason == v1beta1.ReasonAddressKept) {
			t.Fatalf("%s: OK is %t with reason %s", g.Service, g.OK, g.Reason)
		}
		if g.OK || s.Need == config.NeedAll || len(s.Addresses) > 0 || len(g.Addrs) > 0 {
			continue
		}
		for _, pool := range c.Pools {
			for _, span := range pool.Spans() {
				for addr := span.From(); addr.IsValid() && addr.Compare(span.To()) <= 0; addr = addr.Next() {
					if h.couldHave(c, s, pool, addr) {
						t.Fatalf("%s waits (%s) although it could have %s of %s", g.Service, g.Message, addr, pool.Name)
					}
				}
			}
		}
	}
}

// couldHave says in other words than Assign whether an address is free for a Service that names none.
func (h *history) couldHave(c config.Config, s *service, pool config.Pool, addr netip.Addr) bool {
	for _, p := range c.Pools { // a reserved address is waited for
		for _, owner := range p.Reservations {
			if owner == s.Service {
				return false
			}
		}
	}
	_, reserved := pool.Reservations[addr]
	cooling := slices.ContainsFunc(h.released, func(r Release) bool {
		return r.Addr == addr && r.Service != s.Service && h.now.Before(r.At.Add(pool.Cooldown))
	})
	allowed := pool.Allocation == nil || slices.Contains(pool.Allocation.Namespaces, s.Service.Namespace)
	if pool.Deleting {
		return false
	}
	asked := len(s.Pools) == 0 && pool.AutoAssign || slices.Contains(s.Pools, pool.Name)
	return slices.Contains(s.Families, config.FamilyOf(addr)) && allowed && asked && !reserved && !cooling &&
		!h.heldByOther(s.Service, addr) && (!pool.AvoidBuggy || !config.Buggy(addr))
}

// TestHistories runs 10,000 random histories, fewer with -short, or as many as -rapid.checks says.
func TestHistories(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); !testing.Short() && checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("10000"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{now: time.Unix(1e9, 0), pools: map[string]v1beta1.IPAddressPool{}, services: map[types.NamespacedName]*service{}}
		h.pools["attic"] = drawPool(t, "attic")
		t.Repeat(h.actions())
		h.settle(t)
		h.check(t)
	})
}
