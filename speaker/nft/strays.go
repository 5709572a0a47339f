package nft

import (
	"net/netip"
	"slices"
)

// strays are endpoints that no longer serve, to which unanswered connections may still lead: conntrack has decided
// for each when its first packet came, and every time that is sent again goes there, too, as does the first packet
// of whoever uses the same port next, for two minutes and more. When a node dies, all calls that were just being
// made are such.
type strays struct {
	all       bool // any endpoint may be among them: nobody looked while they went
	endpoints map[netip.AddrPort]bool
}

func (s strays) any() bool { return s.all || len(s.endpoints) > 0 }

func (s strays) has(e netip.AddrPort) bool { return s.all || s.endpoints[e] }

func (s strays) hasAny(f family) bool {
	for e := range s.endpoints {
		if familyOf(e.Addr()) == f {
			return true
		}
	}
	return s.all
}

// lose adds the endpoints that Services had and have no more.
func (s *strays) lose(st *state, olds map[string]*placed, all bool) {
	s.all = s.all || all
	for name, old := range olds {
		if old == nil || !old.svc.speaksTCP() {
			continue
		}
		for e := range lostEndpoints(old, st.services[name]) {
			if s.endpoints == nil {
				s.endpoints = map[netip.AddrPort]bool{}
			}
			s.endpoints[e] = true
		}
	}
}

func (s Service) speaksTCP() bool {
	return slices.ContainsFunc(s.Frontends, func(f Frontend) bool { return f.Proto == TCP })
}

// lostEndpoints are those of any target before and of none now; a nil now has none.
func lostEndpoints(old, now *placed) map[netip.AddrPort]bool {
	same := func(a, b Target) bool { return slices.Equal(a.Endpoints, b.Endpoints) }
	if now != nil && slices.EqualFunc(old.svc.Targets, now.svc.Targets, same) {
		return nil
	}
	lost := map[netip.AddrPort]bool{}
	for _, t := range old.svc.Targets {
		for _, e := range t.Endpoints {
			lost[e] = true
		}
	}
	if now == nil {
		return lost
	}
	for _, t := range now.svc.Targets {
		for _, e := range t.Endpoints {
			delete(lost, e)
		}
	}
	return lost
}

// Strays tells whether ForgetStrays has something to do.
func (t *Table) Strays() bool { return t.going.any() || t.gone.any() }

// ForgetStrays deletes the TCP connections that nobody has answered yet and that lead to endpoints which had gone before
// the last call, and returns how many: their next packet begins anew, at an endpoint of now. Call it again and again, as
// far apart as an endpoint may take to answer, while there are Strays: what went since the last call may yet answer.
func (t *Table) ForgetStrays() (int, error) {
	ripe := t.gone
	t.gone, t.going = t.going, strays{}
	if !ripe.any() {
		return 0, nil
	}
	kinds := kinds{}
	for _, f := range families {
		if !ripe.hasAny(f) {
			continue
		}
		kinds[kind{f, TCP}] = func(fl flow, nodePortAddrs map[netip.Addr]bool) bool {
			return ripe.has(fl.from) && t.state.astray(fl, nodePortAddrs)
		}
	}
	n, err := t.forgetThose(kinds)
	if err != nil {
		t.unclean = true
	}
	return n, err
}

// astray tells whether a connection to a frontend was led to what is no endpoint of it any more.
func (st *state) astray(fl flow, nodePortAddrs map[netip.Addr]bool) bool {
	k := st.frontendOf(fl, nodePortAddrs)
	owner, owned := st.owners[k]
	if !owned || st.eclipsed[k] || fl.from == fl.to {
		return false
	}
	svc := st.services[owner].svc
	for _, f := range svc.Frontends {
		if f.key() != k {
			continue
		}
		for _, target := range []int{f.Target, f.Short} {
			if target != None && slices.Contains(svc.Targets[target].Endpoints, fl.from) {
				return false
			}
		}
	}
	return true
}

// frontendOf is what a connection was made to: an address and port, or a node port.
func (st *state) frontendOf(fl flow, nodePortAddrs map[netip.Addr]bool) frontKey {
	k := frontKey{fl.to.Addr().Unmap(), fl.proto, fl.to.Port()}
	if _, owned := st.owners[k]; !owned && nodePortAddrs[k.addr] {
		k.addr = k.family().unspecified()
	}
	return k
}
