package l2

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/links"
)

// probes is how often Probe asks.
const probes = 3

// Probe asks the wire who has these addresses (RFC 5227 ARP probes, RFC 4862 neighbour
// solicitations from ::), all at once, three times within wait, and returns one sighting
// for every address that another host has, sorted: none means the addresses are free. It
// returns before wait is over if all were seen. It needs no Apply before and changes
// nothing. Until and Round of want do not matter, nor do links that cannot be used; an
// error means that some address could not be asked for, and comes with what was seen.
func (r *Responder) Probe(ctx context.Context, want []Announcement, ls []links.Link, wait time.Duration) ([]Sighting, error) {
	in := inquiry{ours: ownMACs(ls), found: map[netip.Addr]Sighting{}, open: map[netip.Addr]bool{}, all: make(chan struct{})}
	err := in.prepare(plan(want, ls))
	if len(in.open) == 0 {
		return nil, err
	}
	in.listen()
	err = errors.Join(err, in.ask(ctx, wait))
	// Not waited for: the kernel takes its time to close such a socket, some 15 ms each on a quiet machine, and
	// an address that nobody answers for waits to be taken.
	go in.close(r.log)
	return in.sightings(), err
}

// inquiry is one call of Probe.
type inquiry struct {
	ours map[mac]bool
	ears []*inquirer

	mu    sync.Mutex
	open  map[netip.Addr]bool // addresses nobody has answered for yet
	found map[netip.Addr]Sighting
	all   chan struct{} // closed when nothing is open
}

// inquirer asks for some addresses on one link.
type inquirer struct {
	*ear
	own   mac
	addrs []netip.Addr
}

func (in *inquiry) prepare(pairs []pair) error {
	byEar := map[earKey]*inquirer{}
	for _, p := range pairs {
		if p.problem != "" {
			continue
		}
		q := byEar[p.ear()]
		if q == nil {
			q = &inquirer{own: mac(p.link.MAC)}
			q.ear = &ear{link: p.link}
			byEar[p.ear()] = q
			in.ears = append(in.ears, q)
		}
		q.addrs = append(q.addrs, p.addr)
	}
	var errs []error
	in.ears = slices.DeleteFunc(in.ears, func(q *inquirer) bool {
		e, err := openEar(q.link, protocolOf(q.addrs[0]), q.addrs)
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENXIO) {
			errs = append(errs, err)
		}
		q.ear = e
		return err != nil
	})
	for _, q := range in.ears {
		for _, a := range q.addrs {
			in.open[a] = true
		}
	}
	return errors.Join(errs...)
}

func (in *inquiry) listen() {
	for _, q := range in.ears {
		go func() {
			buf := make([]byte, snapLen)
			for {
				n, _, err := q.conn.ReadFrom(buf)
				switch {
				case errors.Is(err, unix.ENETDOWN):
				case err != nil:
					return
				default:
					in.take(q, buf[:n])
				}
			}
		}()
	}
}

func (in *inquiry) take(q *inquirer, frame []byte) {
	h, err := q.proto.parse(frame)
	if err != nil || !h.claims.IsValid() || in.ours[h.from] {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.open[h.claims] {
		return
	}
	in.found[h.claims] = Sighting{Address: h.claims, Link: q.link.Name, MAC: h.from.hardware(), At: time.Now()}
	if delete(in.open, h.claims); len(in.open) == 0 {
		close(in.all)
	}
}

// ask sends the probes, evenly over wait, and waits for the rest of it.
func (in *inquiry) ask(ctx context.Context, wait time.Duration) error {
	ticker := time.NewTicker(max(wait/probes, 1))
	defer ticker.Stop()
	var errs []error
	for range probes {
		errs = append(errs, in.send())
		select {
		case <-in.all:
			return errors.Join(errs...)
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		case <-ticker.C:
		}
	}
	return errors.Join(errs...)
}

func (in *inquiry) send() error {
	var errs []error
	for _, q := range in.ears {
		for _, a := range q.addrs {
			frame, err := q.proto.probe(a, q.own)
			if err == nil && in.isOpen(a) {
				err = q.send(frame)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (in *inquiry) isOpen(a netip.Addr) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.open[a]
}

func (in *inquiry) close(log *slog.Logger) {
	for _, q := range in.ears {
		if err := q.conn.Close(); err != nil && !closed(err) {
			log.Warn("close a socket that asked the wire", "link", q.link.Name, "error", err)
		}
	}
}

func (in *inquiry) sightings() []Sighting {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []Sighting
	for _, s := range in.found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Sighting) int { return a.Address.Compare(b.Address) })
	return out
}
