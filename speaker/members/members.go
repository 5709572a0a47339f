// Package members knows which speakers are alive: encrypted gossip (hashicorp/memberlist)
// between the nodes themselves, without the API server. Each member carries a small
// document, its meta, that all others learn; what is in it is the caller's business.
//
// Out of scope: who the peers are (the caller finds them and says so), what a death means.
package members

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// MaxMeta is the largest meta in bytes.
const MaxMeta = 16 << 10

// State says how a member stands.
type State int

const (
	// Alive members answer, themselves or through others.
	Alive State = iota
	// Left members said goodbye.
	Left
	// Dead members went silent.
	Dead
)

// String is the word for people and for metrics: "alive", "left" or "dead".
func (s State) String() string { return [...]string{"alive", "left", "dead"}[s] }

// Member is one speaker as this one sees it.
type Member struct {
	Name    string
	Address netip.AddrPort
	State   State
	Since   time.Time // when it came to this state, by our clock
	Meta    []byte    // nil until it was heard; kept after a death
}

// Config says how to gossip. Zero durations and numbers mean the defaults.
type Config struct {
	Name      string         // of this node, unique
	Bind      netip.AddrPort // to listen on (UDP and TCP); port 0 picks one; the address is also what others are told
	Key       []byte         // AES key of 16, 24 or 32 bytes, the same on all; others are not heard
	Probe     time.Duration  // how often one member is probed: 200 ms
	Timeout   time.Duration  // how long it may take to answer: 100 ms
	Suspicion int            // how many probes long it is suspected before it is dead: 2
	Rejoin    time.Duration  // how often peers that are no members are called: 5 s
}

func (c Config) withDefaults() Config {
	orDuration := func(have, otherwise time.Duration) time.Duration {
		if have == 0 {
			return otherwise
		}
		return have
	}
	c.Probe = orDuration(c.Probe, 200*time.Millisecond)
	c.Timeout = orDuration(c.Timeout, 100*time.Millisecond)
	c.Rejoin = orDuration(c.Rejoin, 5*time.Second)
	if c.Suspicion == 0 {
		c.Suspicion = 2
	}
	return c
}

// What is fixed, because it follows from the rest or nobody would change it.
const (
	gossipEvery = 100 * time.Millisecond
	// syncEvery is how often two members compare all they know: it finds what every other way lost.
	syncEvery = 5 * time.Second
	// callTime bounds a connection to a peer that may not be there.
	callTime = 2 * time.Second
	// callsAtOnce bounds how many peers are called, and told something, at a time.
	callsAtOnce = 16
)

// Gossip is this node among the members. Its methods may be called from any goroutine.
type Gossip struct {
	cfg      Config
	since    time.Time
	book     *book
	list     *memberlist.Memberlist
	newPeers chan struct{}
	tell     chan struct{}
	stop     context.CancelFunc
	stopped  chan struct{}
}

// Open starts gossiping, alone at first. It rings bell (non-blocking; make it of size
// one) after every change that Snapshot shows. The key is never logged.
func Open(cfg Config, log *slog.Logger, bell chan<- struct{}) (*Gossip, error) {
	cfg = cfg.withDefaults()
	g := &Gossip{
		cfg: cfg, since: time.Now(), book: newBook(cfg.Name, bell),
		newPeers: make(chan struct{}, 1), tell: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	list, err := memberlist.Create(g.listConfig(log))
	if err != nil {
		// memberlist's message about a bad key gives its length only.
		return nil, fmt.Errorf("gossip on %s: %w", cfg.Bind, err)
	}
	g.list = list
	ctx, stop := context.WithCancel(context.Background()) //nolint:forbidigo // the life of Gossip ends with Leave or Close, not with a caller's context
	g.stop = stop
	go g.run(ctx)
	return g, nil
}

func (g *Gossip) listConfig(log *slog.Logger) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.cfg.Name
	c.BindAddr, c.BindPort = g.cfg.Bind.Addr().String(), int(g.cfg.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.SecretKey = g.cfg.Key
	c.ProbeInterval, c.ProbeTimeout = g.cfg.Probe, g.cfg.Timeout
	c.SuspicionMult = g.cfg.Suspicion
	c.GossipInterval, c.PushPullInterval, c.TCPTimeout = gossipEvery, syncEvery, callTime
	c.DeadNodeReclaimTime = time.Second // a node may come back with another address
	c.Delegate, c.Events = delegateBook{g.book}, eventBook{g.book}
	c.Logger = quietLogger(log)
	g.book.joined = func() { ring(g.tell) }
	return c
}

// Address is what this node listens on.
func (g *Gossip) Address() netip.AddrPort { return addressOf(g.list.LocalNode()) }

// SetPeers says whom to talk to: all the other speakers there should be, this node
// itself does no harm. Those that are no live members are called now and then every
// Rejoin, in the background. A dead or departed member is forgotten when it is no
// longer among the peers.
func (g *Gossip) SetPeers(peers []netip.AddrPort) {
	if g.book.setPeers(peers) {
		ring(g.newPeers)
	}
}

// SetMeta tells all members, now and future, what this node has to say. Repeating the
// present meta costs nothing. Larger than MaxMeta is an error and changes nothing.
func (g *Gossip) SetMeta(meta []byte) error {
	if len(meta) > MaxMeta {
		return fmt.Errorf("set the meta of %s: it has %d bytes, more than %d", g.cfg.Name, len(meta), MaxMeta)
	}
	if g.book.setMeta(meta) {
		ring(g.tell)
	}
	return nil
}

// Snapshot lists all members, this one included, sorted by name.
func (g *Gossip) Snapshot() []Member {
	return g.book.snapshot(Member{Name: g.cfg.Name, Address: g.Address(), State: Alive, Since: g.since})
}

// Leave tells the others goodbye, waits until that is spread or ctx ends, and closes.
func (g *Gossip) Leave(ctx context.Context) error {
	wait := callTime
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	g.book.sayGoodbye()
	g.spread(ctx)
	err := g.list.Leave(wait)
	if closeErr := g.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("leave the members: %w", err)
	}
	return nil
}

// Close stops at once and silently: to the others this node dies.
func (g *Gossip) Close() error {
	g.stop()
	<-g.stopped
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// run calls peers and spreads this node's meta until ctx ends.
func (g *Gossip) run(ctx context.Context) {
	defer close(g.stopped)
	tick := time.NewTicker(g.cfg.Rejoin)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.tell:
			g.spread(ctx)
		case <-g.newPeers:
			g.call(ctx)
		case <-tick.C:
			g.call(ctx)
			g.spread(ctx)
		}
	}
}

// call joins the peers that are no live members: memberlist itself does not try
// again to reach who both sides of a partition have declared dead.
func (g *Gossip) call(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for _, peer := range g.book.missing() {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			_, err := g.list.Join([]string{peer.String()})
			return err
		})
	}
	_ = group.Wait() // who could not be reached is called again
}

// spread sends this node's meta to the members that have not got it.
func (g *Gossip) spread(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for _, node := range g.list.Members() {
		if node.Name == g.cfg.Name || ctx.Err() != nil {
			continue
		}
		message, version, news := g.book.newsFor(node.Name)
		if !news {
			continue
		}
		group.Go(func() error {
			err := g.list.SendReliable(node, message)
			if err == nil {
				g.book.wasTold(node.Name, version)
			}
			return err
		})
	}
	_ = group.Wait() // who was not reached is told at the next tick, or when it compares notes
}

func addressOf(node *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(node.Addr)
	return netip.AddrPortFrom(addr.Unmap(), node.Port)
}

// ring rings a bell without blocking.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// quietLogger passes on what memberlist says for those who debug, and its
// errors to everybody, but no more than one in a while: a stranger
// with another key could fill the log.
func quietLogger(to *slog.Logger) *log.Logger {
	return log.New(&quiet{to: to}, "", 0)
}

const quietFor = 10 * time.Second

type quiet struct {
	to   *slog.Logger
	last time.Time // log.Logger serialises its writes
}

func (q *quiet) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.HasPrefix(text, "[ERR]") && time.Since(q.last) > quietFor {
		q.last = time.Now()
		q.to.Warn("gossip", "message", text)
	} else {
		q.to.Debug("gossip", "message", text)
	}
	return len(line), nil
}

func sortMembers(all []Member) {
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}
