package members

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// atOnce bounds how many members are told or called at the same time.
const atOnce = 16

// teller brings this node's record to every member that has not got it, over TCP because
// a meta is larger than a datagram. What fails is tried again; what is lost all the same
// comes with the next exchange of states.
func (g *Gossip) teller() {
	retry := time.NewTicker(max(g.cfg.Rejoin/10, time.Millisecond))
	defer retry.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-g.wake:
		case <-retry.C:
		}
		g.tell()
	}
}

func (g *Gossip) tell() {
	r := g.book.own()
	message := encode(r)
	// Not under our lock: memberlist holds its own while it tells us of events, which take ours.
	to := g.list.Members()
	alive := g.book.alive()
	g.mu.Lock()
	to = slices.DeleteFunc(to, func(n *memberlist.Node) bool {
		_, ok := alive[n.Name]
		return !ok || !r.newer(g.told[n.Name])
	})
	g.mu.Unlock()
	each(to, func(n *memberlist.Node) {
		if err := g.list.SendReliable(n, message); err != nil {
			g.log.Debug("telling a member did not work", "member", n.Name, "error", err)
			return
		}
		g.mu.Lock()
		g.told[n.Name] = r
		g.mu.Unlock()
	})
}

// untell makes the teller tell a member anew: it has begun a new life, or comes back from
// a partition.
func (g *Gossip) untell(name string) {
	g.mu.Lock()
	delete(g.told, name)
	g.mu.Unlock()
	ring(g.wake)
}

// callsPerRejoin is how often a peer that was a member not long ago is called in a Rejoin:
// most likely a partition has healed, or its node is up again, and until then two nodes
// may answer for one address.
const callsPerRejoin = 5

// caller joins the peers that are no members: at the start, and after a partition, which
// memberlist does not heal once each side has declared the other dead.
func (g *Gossip) caller() {
	again := time.NewTicker(g.cfg.Rejoin / callsPerRejoin)
	defer again.Stop()
	for round := 0; ; round++ {
		g.call(round%callsPerRejoin == 0)
		select {
		case <-g.stop:
			return
		case <-g.callNow:
			round = -1
		case <-again.C:
		}
	}
}

// call joins all missing peers, or only the lately lost ones, each in the background: a
// dead one keeps its caller waiting.
func (g *Gossip) call(all bool) {
	living, lost := g.book.addresses(time.Now().Add(-callsPerRejoin * 10 * g.cfg.Rejoin))
	living[g.Address()] = true
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.peers {
		if living[p] || g.calling[p] || !all && !lost[p] || len(g.calling) >= atOnce {
			continue
		}
		g.calling[p] = true
		go g.join(p) // nobody waits for it, as the end of this member must not
	}
}

func (g *Gossip) join(p netip.AddrPort) {
	if _, err := g.list.Join([]string{hostPort(p)}); err != nil {
		g.log.Debug("calling a peer did not work", "peer", p, "error", err)
	}
	g.mu.Lock()
	delete(g.calling, p)
	g.mu.Unlock()
}

// each does f for all, a few at the same time.
func each[T any](all []T, f func(T)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, x := range all {
		slots <- struct{}{}
		wg.Go(func() {
			f(x)
			<-slots
		})
	}
	wg.Wait()
}
