package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node among the members. All methods may be called from any goroutine.
type Gossip struct {
	cfg  Config
	log  *slog.Logger
	bell chan<- struct{}
	list *memberlist.Memberlist
	book *book

	wake    chan struct{} // there is something to tell
	callNow chan struct{} // there is somebody to call
	stop    chan struct{}
	stopped sync.Once
	workers sync.WaitGroup

	mu      sync.Mutex // never held while memberlist is asked for anything
	peers   map[netip.AddrPort]bool
	calling map[netip.AddrPort]bool // peers that are being joined
	told    map[string]record       // by member: our record as it has it
}

// Open starts gossiping, alone at first. It rings bell (non-blocking; make it of size
// one) after every change that Snapshot shows. The key is never logged.
func Open(cfg Config, log *slog.Logger, bell chan<- struct{}) (*Gossip, error) {
	cfg = cfg.withDefaults()
	if cfg.Name == "" || len(cfg.Name) > maxName {
		return nil, fmt.Errorf("open gossip: the name %q is no name of a node", cfg.Name)
	}
	g := &Gossip{
		cfg: cfg, log: log, bell: bell,
		wake: make(chan struct{}, 1), callNow: make(chan struct{}, 1), stop: make(chan struct{}),
		peers: map[netip.AddrPort]bool{}, calling: map[netip.AddrPort]bool{}, told: map[string]record{},
	}
	now := time.Now()
	g.book = newBook(record{name: cfg.Name, epoch: uint64(now.UnixNano())}, cfg.Bind, now)
	list, err := memberlist.Create(g.listConfig())
	if err != nil {
		return nil, fmt.Errorf("open gossip on %s: %w", cfg.Bind, err)
	}
	g.list = list
	g.book.joined(cfg.Name, g.Address(), now)
	g.workers.Go(g.teller)
	g.workers.Go(g.caller)
	return g, nil
}

func (c Config) withDefaults() Config {
	if c.Probe == 0 {
		c.Probe = DefaultProbe
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Suspicion == 0 {
		c.Suspicion = DefaultSuspicion
	}
	if c.Rejoin == 0 {
		c.Rejoin = 5 * time.Second
	}
	return c
}

func (g *Gossip) listConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.cfg.Name
	c.BindAddr, c.BindPort = g.cfg.Bind.Addr().String(), int(g.cfg.Bind.Port())
	c.AdvertisePort = c.BindPort
	c.SecretKey = g.cfg.Key
	c.ProbeInterval, c.ProbeTimeout = g.cfg.Probe, g.cfg.Timeout
	c.SuspicionMult = g.cfg.Suspicion
	// Without confirmations by others a suspect would get six times as long.
	c.SuspicionMaxTimeoutMult = 1
	c.GossipInterval = g.cfg.Probe / 2
	c.PushPullInterval = g.cfg.Rejoin
	c.TCPTimeout = 2 * time.Second
	// A node that comes back with another address may have its name at once.
	c.DeadNodeReclaimTime = g.cfg.Probe
	c.Delegate, c.Events = (*delegate)(g), (*events)(g)
	c.Logger = quiet(g.log)
	return c
}

// Address is what this node listens on.
func (g *Gossip) Address() netip.AddrPort { return addressOf(g.list.LocalNode()) }

func addressOf(n *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(addr.Unmap(), n.Port)
}

// SetPeers says whom to talk to: all the other speakers there should be, this node
// itself does no harm. Those that are no live members are called now and then every
// Rejoin, in the background, and those that were members lately five times as often. A dead or departed member is forgotten when it is no
// longer among the peers.
func (g *Gossip) SetPeers(peers []netip.AddrPort) {
	wanted := map[netip.AddrPort]bool{}
	for _, p := range peers {
		wanted[netip.AddrPortFrom(p.Addr().Unmap(), p.Port())] = true
	}
	g.mu.Lock()
	fresh := slices.ContainsFunc(peers, func(p netip.AddrPort) bool { return !g.peers[p] })
	g.peers = wanted
	g.mu.Unlock()
	if g.book.forget(wanted) {
		ring(g.bell)
	}
	if fresh {
		ring(g.callNow)
	}
}

// SetMeta tells all members, now and future, what this node has to say. Repeating the
// present meta costs nothing. Larger than MaxMeta is an error and changes nothing.
func (g *Gossip) SetMeta(meta []byte) error {
	if len(meta) > MaxMeta {
		return fmt.Errorf("set meta of %d bytes: the most is %d", len(meta), MaxMeta)
	}
	if r := g.book.own(); r.meta != nil && slices.Equal(r.meta, meta) {
		return nil
	}
	g.book.say(func(r *record) { r.meta = append([]byte{}, meta...) })
	ring(g.wake)
	ring(g.bell)
	return nil
}

// Snapshot lists all members, this one included, sorted by name.
func (g *Gossip) Snapshot() []Member { return g.book.snapshot() }

// Leave tells the others goodbye, waits until that is spread or ctx ends, and closes.
func (g *Gossip) Leave(ctx context.Context) error {
	g.book.say(func(r *record) { r.leaving = true })
	told := make(chan error, 1)
	go func() {
		g.tell()
		told <- g.list.Leave(g.cfg.Rejoin)
	}()
	var err error
	select {
	case err = <-told:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("leave the members: %w", err)
	}
	return errors.Join(err, g.Close())
}

// Close stops at once and silently: to the others this node dies. It may be called twice.
func (g *Gossip) Close() error {
	g.stopped.Do(func() { close(g.stop) })
	g.workers.Wait()
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("close gossip: %w", err)
	}
	return nil
}

func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// hostPort is how memberlist wants an address.
func hostPort(a netip.AddrPort) string {
	return net.JoinHostPort(a.Addr().String(), fmt.Sprint(a.Port()))
}
