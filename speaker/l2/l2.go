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
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/speaker/links"
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

// LinkCounters count what a link brought that belongs to no address.
type LinkCounters struct {
	Link      string
	Malformed uint64 // frames that are no valid ARP or NDP
	Ignored   uint64 // valid, but not for us to act on
	Dropped   uint64 // frames the kernel dropped because they came too fast
}

// Report is what was reached.
type Report struct {
	States []State        // sorted by address, then link; one for every wished pair
	Links  []LinkCounters // sorted by name; links in use
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

// Responder answers for addresses. Make it with New; its methods may be called from one
// goroutine at a time, Report from any.
type Responder struct {
	Timing Timing // change it before the first Apply only
}

// New makes a Responder that answers for nothing. It rings bell (non-blocking; make it
// of size one) when another host is seen using an announced address and when a handover
// is over.
func New(log *slog.Logger, bell chan<- struct{}) *Responder {
	return &Responder{Timing: DefaultTiming()}
}

// Apply makes exactly want true, on the links as they are in ls (a fresh snapshot of all
// links). It is idempotent. An address that is new on a link, or whose link came back or
// changed its MAC, is announced in a series; one that want does not hold any more is not
// answered from here on, and nothing is sent for it. A link that cannot be used is a
// Problem in the Report; an error is what a retry may cure, and stops nothing else.
func (r *Responder) Apply(ctx context.Context, want []Announcement, ls []links.Link) (Report, error) {
	return Report{}, errors.New("not yet")
}

// Report reads the present state without touching the network.
func (r *Responder) Report() Report { return Report{} }

// Probe asks the wire who has these addresses (RFC 5227 ARP probes, RFC 4862 neighbour
// solicitations from ::), all at once, three times within wait, and returns one sighting
// for every address that another host has, sorted: none means the addresses are free. It
// returns before wait is over if all were seen. It needs no Apply before and changes
// nothing. Until and Round of want do not matter.
func (r *Responder) Probe(ctx context.Context, want []Announcement, ls []links.Link, wait time.Duration) ([]Sighting, error) {
	return nil, errors.New("not yet")
}

// Close stops answering and announcing, at once and silently, and frees the sockets.
func (r *Responder) Close() error { return nil }
