package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Table is the two kernel tables of this network namespace. It is not safe for
// concurrent use.
type Table struct {
	log     *slog.Logger
	bell    chan<- struct{}
	wire    *wire
	monitor *monitor
	state   *state // nil before the first full wish
	// doubtful tells that the kernel may hold something else than state says.
	doubtful atomic.Bool
	// unclean tells that connections or affinity may be left that lead nowhere.
	unclean bool
	// early tells for which families there are new frontends that connections may be older than: see Sweep.
	early [len(families)]bool
	// going and gone are endpoints that connections may lead to in vain: those of now, and those of before the last ForgetStrays.
	going, gone strays
}

// Open connects to the kernel and changes nothing yet. The bell is rung, without
// blocking, when somebody else changed our tables; the next Apply then reads
// back and heals, even with an empty Wish. A nil bell is never rung. The Table
// belongs to the network namespace of the calling thread.
func Open(log *slog.Logger, bell chan<- struct{}) (*Table, error) {
	w, err := dial()
	if err != nil {
		return nil, err
	}
	t := &Table{log: log, bell: bell, wire: w}
	t.monitor, err = watch(w.port, t.ring)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return t, nil
}

// errNotFull is a caller's mistake: leaving out what is not known to be unchanged would delete it.
var errNotFull = errors.New("the first wish of a table must be full")

// Apply makes the kernel hold the wish: packets are led by the old one until a
// single transaction, and by the new one from then on. What was
// wished is remembered even when an error is returned: the next Apply, be its wish empty
// (but for Static), reads the kernel back and goes on from what is there.
func (t *Table) Apply(ctx context.Context, w Wish) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	if t.state == nil && !w.Full {
		return Report{}, errNotFull
	}
	before := t.state
	olds := t.olds(w)
	var rep Report
	var err error
	if w.Full || t.doubtful.Load() || before.full {
		rep, err = t.applyAll(w, false)
	} else {
		rep, err = t.applyChanged(w)
	}
	for _, anew := range []bool{false, true} {
		if err == nil || anew && !refused(err) {
			break
		}
		t.log.Warn("reading the forwarding table back after a failed change", "error", err, "anew", anew)
		errs := rep.Errors + 1
		rep, err = t.applyAll(Wish{Static: w.Static}, anew)
		rep.Errors += errs
	}
	if err != nil {
		rep.Errors++
		t.unclean = true
		return rep, fmt.Errorf("apply %d changed Services to table %s: %w", len(w.Changed), TableName, err)
	}
	t.count(&rep)
	err = t.clean(olds, w.Full || t.unclean, &rep)
	t.unclean = err != nil
	return rep, err
}

// applyChanged trusts what is known of the kernel.
func (t *Table) applyChanged(w Wish) (Report, error) {
	st := t.state
	st.plan = &changes{}
	st.setStatic(w.Static)
	for _, name := range sortedKeys(w.Changed) {
		st.put(name, w.Changed[name].clean(), pastOf(st.services[name]))
	}
	rep, err := t.commit(st.plan)
	st.elements += rep.Added - rep.Deleted
	st.plan = &changes{}
	return rep, err
}

// refused tells whether the kernel refused a change for what it holds, and would refuse it again.
func refused(err error) bool {
	return slices.ContainsFunc([]error{unix.EEXIST, unix.ENOENT, unix.ENOTEMPTY, unix.EBUSY, unix.EINVAL}, func(e error) bool { return errors.Is(err, e) })
}

// applyAll reads the kernel back and changes what differs. If that was refused before, it makes the tables anew: one
// transaction that needs nothing of what is there and costs only the affinity of clients.
func (t *Table) applyAll(w Wish, anew bool) (Report, error) {
	t.doubtful.Store(false) // before the dump: what changes from now on is in doubt again
	old := t.state
	st := newState()
	t.state = st
	wanted := wanted(old, w)
	snap, err := t.wire.read()
	if err != nil {
		st.remember(w.Static, wanted)
		t.doubtful.Store(true)
		return Report{ReadBack: true}, err
	}
	for _, f := range families {
		snap.tables[f].foreign = snap.tables[f].foreign || anew && snap.tables[f].exists
	}
	kernel := snap.past()
	for _, f := range families {
		st.tables[f].past = kernel.classes[f]
	}
	st.setStatic(w.Static)
	st.plan.expect(wanted)
	for _, name := range byAge(wanted) {
		was := kernel.of()
		if old != nil && old.services[name] != nil {
			was = pastOf(old.services[name])
			was.own = nil
		}
		st.put(name, wanted[name], was)
	}
	st.plan = reconcile(snap, st)
	rep, err := t.commit(st.plan)
	for _, f := range families {
		st.tables[f].past = nil
	}
	st.plan = &changes{} // all elements there are: not worth keeping
	rep.ReadBack = true
	return rep, err
}

// remember keeps a wish that could not be worked on.
func (st *state) remember(s Static, wanted map[string]Service) {
	st.setStatic(s)
	for name, svc := range wanted {
		st.put(name, svc, past{})
	}
}

// wanted are all Services that shall be there.
func wanted(old *state, w Wish) map[string]Service {
	out := make(map[string]Service, len(w.Changed))
	if !w.Full && old != nil {
		for name, p := range old.services {
			out[name] = p.svc
		}
	}
	for name, svc := range w.Changed {
		out[name] = svc.clean()
		if svc.IsZero() {
			delete(out, name)
		}
	}
	return out
}

// byAge lists the oldest Service first: it most likely has what is contested.
func byAge(services map[string]Service) []string {
	names := sortedKeys(services)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(services[a].Created, services[b].Created) })
	return names
}

// packetTime is how long a packet may be on its way through the rules before
// what it was led to is taken away, or after it came in when there were other chains. That takes microseconds, but the processor of
// a busy virtual machine may stand still in the middle of it.
const packetTime = time.Millisecond

// commit sends a plan: one transaction for all that packets are led by; before it
// one with what they are led to, if some of that is new, and after it one that takes away what nothing leads to any more.
func (t *Table) commit(plan *changes) (Report, error) {
	var rep Report
	settling := false
	for _, part := range plan.inOrder() {
		b := newBatch(t.wire)
		added, deleted, rules := b.write(part)
		if b.empty() {
			continue
		}
		if settling || (rep.Transactions > 0 && added == 0) {
			<-time.After(packetTime)
		}
		settling = len(part.chains) > 0
		rep.Added, rep.Deleted, rep.Rules = rep.Added+added, rep.Deleted+deleted, rep.Rules+rules
		rep.Transactions++
		if err := t.send(b, added+deleted); err != nil {
			t.doubtful.Store(true)
			return rep, err
		}
	}
	return rep, nil
}

// largeTransaction is from how many elements on notices cost too much.
const largeTransaction = 2000

func (t *Table) send(b *batch, size int) error {
	if size < largeTransaction {
		return b.commit()
	}
	disturbed, err := t.monitor.deaf(t.wire, b.commit)
	if disturbed {
		t.ring()
	}
	return err
}

// ring notes that the kernel's state is in doubt and tells so.
func (t *Table) ring() {
	t.doubtful.Store(true)
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

// count fills in what is in force.
func (t *Table) count(rep *Report) {
	rep.Services = len(t.state.services)
	rep.Frontends = len(t.state.owners)
	rep.Endpoints = t.state.endpoints
	rep.Elements = t.state.elements
	for k, names := range t.state.rivals {
		rep.Contests = append(rep.Contests, Contest{Frontend: k.String(), Winner: names[0], Losers: slices.Clone(names[1:])})
	}
	for k := range t.state.eclipsed {
		rep.Contests = append(rep.Contests, Contest{Frontend: k.String(), Winner: t.state.owners[k.nodePort()], Losers: []string{t.state.owners[k]}})
	}
	slices.SortFunc(rep.Contests, func(a, b Contest) int { return cmp.Compare(a.Frontend, b.Frontend) })
}

// Close ends the connections to the kernel and leaves the tables in place.
func (t *Table) Close() error {
	return errors.Join(t.monitor.close(), t.wire.close())
}

// Cleanup deletes both tables. It is no error if there are none.
func Cleanup(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := dial()
	if err != nil {
		return err
	}
	return errors.Join(w.deleteTables(), w.close())
}

func (w *wire) deleteTables() error {
	b := newBatch(w)
	for _, f := range families {
		var t tableSnapshot
		if err := w.findTable(f, &t); err != nil {
			return fmt.Errorf("look for table %s: %w", TableName, err)
		}
		if t.exists {
			b.write(&changes{recreate: []family{f}})
		}
	}
	if b.empty() {
		return nil
	}
	if err := b.commit(); err != nil {
		return fmt.Errorf("delete table %s: %w", TableName, err)
	}
	return nil
}
