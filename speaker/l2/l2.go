// Package l2 makes this node answer for addresses on its LANs: ARP for IPv4, NDP for
// IPv6, one code path for both. It holds the sockets, answers who asks, announces what
// is new, and listens for other hosts that claim the same addresses. It puts no address
// on an interface and touches no routes.
//
// Out of scope: who owns an address (elect), which links exist (links; this package uses
// their values), what to do about a conflict (the caller reads it from the Report), and
// ICMP echo (nft).
package l2

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Announcement wishes that this node answers for an address.
type Announcement struct {
	Address netip.Addr
	Links   []string // names of the links to answer on; those that do not exist or are unusable are reported as Problem

	// Until, if not zero, makes this a handover: the node answers who asks, announces
	// nothing by itself, and stops for good as soon as another host is heard announcing
	// the address, at the latest at Until. Withdraw the announcement afterwards.
	Until time.Time

	// Round starts the series of gratuitous announcements anew whenever it changes:
	// the answer to a foreign announcement that this node outranks.
	Round uint64
}

// Sighting is another host seen to use an address: its MAC is none of this node's.
type Sighting struct {
	Address netip.Addr
	Link    string
	MAC     net.HardwareAddr
	At      time.Time // the last time
}

// Counters count frames of one address on one link since it was first announced there.
type Counters struct {
	Received   uint64 // requests and solicitations for the address
	Answered   uint64 // replies sent
	Limited    uint64 // requests not answered because their sender asks too often
	Gratuitous uint64 // announcements sent without being asked
	Failed     uint64 // frames the kernel did not take
}

// State is how an address stands on one link.
type State struct {
	Address  netip.Addr
	Link     string
	MAC      net.HardwareAddr // what is answered; nil if nothing is
	Since    time.Time        // when this node began to answer here; zero if it does not
	Problem  string           // why it does not answer here, for people; "" if it does
	Handed   bool             // the handover is over: the successor was heard, or Until has passed
	Foreign  Sighting         // the last other host seen to use the address; zero if none
	Counters Counters
}

// LinkCounters count what happened on a link since the Responder was made. They never go back.
type LinkCounters struct {
	Link      string
	Malformed uint64 // frames that are no valid ARP or NDP
	Ignored   uint64 // valid, but not for us to act on
	Dropped   uint64 // frames the kernel dropped because they came too fast
	Counters         // of all addresses, also those that are elsewhere by now
}

func (c *LinkCounters) add(d LinkCounters) {
	c.Malformed += d.Malformed
	c.Ignored += d.Ignored
	c.Dropped += d.Dropped
	c.Received += d.Received
	c.Answered += d.Answered
	c.Limited += d.Limited
	c.Gratuitous += d.Gratuitous
	c.Failed += d.Failed
}

// Report is what was reached.
type Report struct {
	States []State        // sorted by address, then link; one for every wished pair
	Links  []LinkCounters // sorted by name; links that are or were in use
}

// Timing holds every delay of the package; tests shorten it.
type Timing struct {
	Series    []time.Duration // when, after the start of announcing, gratuitous announcements are sent
	Refresh   time.Duration   // and how often from then on; 0 for never
	Batch     int             // at most so many announcements are sent
	BatchTime time.Duration   // in this time
	Answers   int             // answers one sender (by MAC, per link) gets in a second
}

// DefaultTiming is 0, 0.2, 1.1, 2.2 s, then every 30 s; 50 announcements in 10 ms; 200
// answers a second to one sender.
func DefaultTiming() Timing {
	return Timing{
		Series:    []time.Duration{0, 200 * time.Millisecond, 1100 * time.Millisecond, 2200 * time.Millisecond},
		Refresh:   30 * time.Second,
		Batch:     50,
		BatchTime: 10 * time.Millisecond,
		Answers:   200,
	}
}

// Responder answers for addresses. Make it with New; Apply and Close may be called from one
// goroutine at a time, Report and Probe from any, also meanwhile.
type Responder struct {
	Timing Timing // change it before the first Apply only

	log  *slog.Logger
	bell chan<- struct{}
	wake chan struct{}
	stop chan struct{}

	mu      sync.Mutex // guards all below, and the sending of announcements
	running bool
	pairs   []pair
	ears    map[earKey]*ear
	groups  map[earKey]*groups
	duties  map[pairKey]*duty
	begun   map[pairKey]began
	series  map[pairKey]*series
	past    map[string]*LinkCounters // by link: of ears and duties that are no more
	pause   time.Time                // no announcements before, because a batch was full
}

// pairKey names an address on a link.
type pairKey struct {
	addr netip.Addr
	link string
}

func (d *duty) key() pairKey { return pairKey{d.addr, d.link} }
func (p pair) key() pairKey  { return pairKey{p.addr, p.name} }

// began is what was true when a pair was last announced from the start; when it is not
// any more, the others on the LAN may have forgotten or learned wrongly.
type began struct {
	at       time.Time
	own      mac
	index    int
	carriers uint32
	round    uint64
	leaving  bool // in a handover; when it is called off, others must hear so
}

// New makes a Responder that answers for nothing. It rings bell (non-blocking; make it
// of size one) when another host is seen using an announced address and when a handover
// is over.
func New(log *slog.Logger, bell chan<- struct{}) *Responder {
	return &Responder{
		Timing: DefaultTiming(),
		log:    log,
		bell:   bell,
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		ears:   map[earKey]*ear{},
		groups: map[earKey]*groups{},
		duties: map[pairKey]*duty{},
		begun:  map[pairKey]began{},
		series: map[pairKey]*series{},
		past:   map[string]*LinkCounters{},
	}
}

func (r *Responder) ring() { ring(r.bell) }

func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Report reads the present state without touching the network.
func (r *Responder) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out Report
	for _, p := range r.pairs {
		s := State{Address: p.addr, Link: p.name, Problem: p.problem}
		if d := r.duties[p.key()]; d != nil {
			s.Handed, s.Foreign, s.Counters = d.over(time.Now()), d.sighting(), d.counters()
		}
		if b, ok := r.begun[p.key()]; ok && p.problem == "" && !s.Handed {
			s.MAC, s.Since = b.own.hardware(), b.at
		}
		out.States = append(out.States, s)
	}
	out.Links = r.linkCounters()
	return out
}

// linkCounters sums up what is and what was.
func (r *Responder) linkCounters() []LinkCounters {
	byName := map[string]*LinkCounters{}
	for name, c := range r.past {
		count(byName, name, *c)
	}
	for _, e := range r.ears {
		count(byName, e.link.Name, e.counters())
	}
	for key, d := range r.duties {
		count(byName, key.link, LinkCounters{Counters: d.counters()})
	}
	var all []LinkCounters
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, *byName[name])
	}
	return all
}

func count(byName map[string]*LinkCounters, name string, c LinkCounters) {
	if byName[name] == nil {
		byName[name] = &LinkCounters{Link: name}
	}
	byName[name].add(c)
}

// Close stops answering and announcing, at once and silently, and frees the sockets.
func (r *Responder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for key := range r.ears {
		errs = append(errs, r.closeEar(key))
	}
	for key, d := range r.duties {
		count(r.past, key.link, LinkCounters{Counters: d.counters()})
	}
	clear(r.series)
	clear(r.duties)
	clear(r.begun)
	r.pairs = nil
	if r.running {
		r.running = false
		close(r.stop)
	}
	return errors.Join(errs...)
}
