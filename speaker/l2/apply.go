package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/speaker/links"
)

// Apply makes exactly want true, on the links as they are in ls (a fresh snapshot of all
// links). It is idempotent. An address that is new on a link, or whose link came back or
// changed its MAC, is announced in a series; one that want does not hold any more is not
// answered from here on, and nothing is sent for it. A link that cannot be used is a
// Problem in the Report; an error is what a retry may cure, and stops nothing else.
//
// Sockets are opened in the network namespace of the calling thread.
func (r *Responder) Apply(ctx context.Context, want []Announcement, ls []links.Link) (Report, error) {
	err := r.apply(ctx, plan(want, ls), ls)
	ring(r.wake)
	return r.Report(), err
}

func (r *Responder) apply(ctx context.Context, pairs []pair, ls []links.Link) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("apply announcements: %w", err)
	}
	r.pairs = pairs
	perEar := map[earKey][]pair{}
	for _, p := range pairs {
		if p.problem == "" {
			perEar[p.ear()] = append(perEar[p.ear()], p)
		}
	}
	errs := []error{r.withdraw(perEar)}
	ours := ownMACs(ls)
	for _, p := range pairs {
		// Sorted pairs make the order of the ears, and so of errors and logs, a fixed one.
		if mine, ok := perEar[p.ear()]; ok && p.problem == "" {
			delete(perEar, p.ear())
			errs = append(errs, r.serve(p.ear(), mine, ours))
		}
	}
	if !r.running {
		r.running = true
		r.stop = make(chan struct{})
		go r.announcer(r.stop)
	}
	return errors.Join(errs...)
}

// withdraw ends everything that is not wished any more, before anything new begins.
func (r *Responder) withdraw(perEar map[earKey][]pair) error {
	wished, served := map[pairKey]bool{}, map[pairKey]bool{}
	for _, p := range r.pairs {
		wished[p.key()] = true
		served[p.key()] = p.problem == ""
	}
	for key, d := range r.duties {
		if !wished[key] {
			d.handed.Store(true) // before the listeners have their new wishes
			delete(r.duties, key)
			count(r.past, key.link, LinkCounters{Counters: d.counters()})
			r.log.Info("stopped answering", "address", key.addr, "link", key.link)
		}
		if !served[key] {
			delete(r.begun, key)
			delete(r.series, key)
		}
	}
	var errs []error
	for key, e := range r.ears {
		mine := perEar[key]
		if len(mine) == 0 || mine[0].name != e.link.Name || e.broken.Load() {
			errs = append(errs, r.closeEar(key))
		}
	}
	return errors.Join(errs...)
}

func (r *Responder) closeEar(key earKey) error {
	if g := r.groups[key]; g != nil {
		g.forget()
		delete(r.groups, key)
	}
	e := r.ears[key]
	delete(r.ears, key)
	count(r.past, e.link.Name, e.counters())
	return e.close()
}

// serve makes one ear hear and answer for its pairs.
func (r *Responder) serve(key earKey, pairs []pair, ours map[mac]bool) error {
	link := pairs[0].link
	var addrs []netip.Addr
	w := &wish{own: mac(link.MAC), ours: ours, duties: map[netip.Addr]*duty{}}
	for _, p := range pairs {
		addrs = append(addrs, p.addr)
		w.duties[p.addr] = r.dutyOf(p)
	}
	e, err := r.earFor(key, link, addrs, w)
	if err != nil {
		return r.fail(pairs, err)
	}
	if !key.v4 {
		err = r.joinGroups(key, e, link, addrs)
	}
	r.announceNew(e, pairs, w)
	return err
}

// fail notes why pairs are not served. A link that vanished since the snapshot is no
// error: netlink has told so, or is about to.
func (r *Responder) fail(pairs []pair, err error) error {
	for i, p := range r.pairs {
		if p.problem == "" && p.ear() == pairs[0].ear() {
			r.pairs[i].problem = err.Error()
			delete(r.begun, p.key())
			delete(r.series, p.key())
		}
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

func (r *Responder) dutyOf(p pair) *duty {
	d := r.duties[p.key()]
	if d == nil {
		d = &duty{addr: p.addr, link: p.name}
		r.duties[p.key()] = d
		r.log.Info("answering", "address", p.addr, "link", p.name, "mac", p.link.MAC)
	}
	d.wishUntil(p.until)
	return d
}

func (r *Responder) earFor(key earKey, link links.Link, addrs []netip.Addr, w *wish) (*ear, error) {
	if e := r.ears[key]; e != nil {
		return e, e.hear(w, addrs)
	}
	e, err := openEar(link, protocolOf(addrs[0]), addrs)
	if err != nil {
		return nil, err
	}
	e.wish.Store(w)
	e.ring, e.log = r.ring, r.log
	e.limiter = limiter{answers: r.Timing.Answers, given: map[mac]int{}}
	e.start()
	r.ears[key] = e
	return e, nil
}

func (r *Responder) joinGroups(key earKey, e *ear, link links.Link, addrs []netip.Addr) error {
	g := r.groups[key]
	if g == nil {
		g = newGroups(e)
		r.groups[key] = g
	} else if g.link.Carriers != link.Carriers {
		g.forget()
	}
	g.link = link
	return g.join(addrs)
}

// announceNew begins the series of what is new here, or new to the others: after a change
// of the MAC, of the link itself, of its carrier, when a handover is called off, or when
// the caller asks for it.
func (r *Responder) announceNew(e *ear, pairs []pair, w *wish) {
	now := time.Now()
	for _, p := range pairs {
		key := p.key()
		have, known := r.begun[key]
		want := began{
			at: have.at, own: w.own, index: p.link.Index, carriers: p.link.Carriers,
			round: p.round, leaving: !p.until.IsZero(),
		}
		if known && have == want {
			continue
		}
		if !known || have.index != want.index {
			want.at = now
		}
		r.begun[key] = want
		if want.leaving {
			// The successor announces; a word from here would take the address back.
			delete(r.series, key)
		} else {
			r.begin(key, w.duties[p.addr], e, now)
		}
	}
}

func ownMACs(ls []links.Link) map[mac]bool {
	ours := map[mac]bool{}
	for _, l := range ls {
		if len(l.MAC) == len(mac{}) {
			ours[mac(l.MAC)] = true
		}
	}
	return ours
}
