package bfd

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// path is a running session: a Machine, its timer and its socket. Packets are answered
// on the goroutine that read them and the timer's, under one lock: nothing is queued.
type path struct {
	room  *Room
	key   key
	local uint32
	ear   *ear
	out   *net.UDPConn
	loops bool    // whether echo packets come back to the peer
	echo  *echoer // nil if none are sent

	mu      sync.Mutex
	session Session
	problem string
	machine Machine
	timer   *time.Timer
	since   time.Time
	ended   bool

	sent, received, refused uint64
	refusal                 string
}

// profile is how the session is watched, as the machine takes it. The lock is held, or the path has not begun.
func (p *path) profile() Profile {
	profile := p.session.Profile.Filled()
	profile.NoLoop, profile.EchoMode = !p.loops, profile.EchoMode && p.echo != nil
	return profile
}

// openEcho opens the socket for echo packets if they are wished and it is not open yet. Without one the path is watched by
// control packets alone. The lock is held, or the path has not begun.
func (p *path) openEcho() {
	if !p.session.Profile.EchoMode || p.session.Multihop || p.echo != nil {
		return
	}
	echo, err := newEchoer(p.session, p.local, func(at time.Time) { p.step(Event{Now: at, Echoed: true}) })
	if err != nil {
		p.room.log.Warn("no echo packets are sent", "peer", p.session.Peer, "why", err)
		return
	}
	p.echo = echo
}

func (p *path) closeEcho() {
	if p.echo != nil {
		p.echo.close()
	}
}

// begin starts the timer. The path is in the room's maps by then.
func (p *path) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(0, p.tick)
	if p.session.AdminDown {
		p.apply(Event{Now: time.Now(), Configured: true, Profile: p.profile(), AdminDown: true})
	}
}

// configure hands over new settings; false if the path never ran and must start anew.
func (p *path) configure(s Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil || s.Profile.Problem() != "" {
		return p.problem != "" && p.session == s && s.Profile.Problem() != ""
	}
	if p.session != s {
		p.session = s
		p.openEcho()
		p.apply(Event{Now: time.Now(), Configured: true, Profile: p.profile(), AdminDown: s.AdminDown})
	}
	return true
}

// tick runs when a timer of the machine is due. If it is the detection time, packets
// that arrived in time may still wait in the socket, because this process was not given
// a CPU: they are read first, with the arrival times the kernel gave them. The machine is
// told how late it is, because the peer of a machine that stood still may have, too.
func (p *path) tick() {
	p.mu.Lock()
	late := time.Duration(0)
	for _, expires := range []time.Time{p.machine.ExpireAt, p.machine.EchoExpireAt} {
		if !expires.IsZero() {
			late = max(late, time.Since(expires))
		}
	}
	p.mu.Unlock()
	if late > 0 {
		p.ear.drain()
	}
	p.step(Event{Now: time.Now(), Late: late})
}

func (p *path) step(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apply(e)
}

// apply runs the machine and does what it says. The lock is held.
func (p *path) apply(e Event) {
	if p.ended {
		return
	}
	if e.Received {
		p.received++
	}
	e.Roll = float64(random()>>11) / (1 << 53)
	before := p.machine
	var packets []Packet
	p.machine, packets = Step(p.machine, e)
	for _, packet := range packets {
		p.send(packet)
	}
	if p.machine.Echoes != before.Echoes {
		p.echo.send()
	}
	p.arm()
	if p.machine.State != before.State {
		p.changed(before)
	}
}

func (p *path) send(packet Packet) {
	if _, err := p.out.Write(packet.Marshal()); err == nil {
		p.sent++
	}
}

// arm sets the timer to what is due first.
func (p *path) arm() {
	next := p.machine.SendAt
	for _, at := range []time.Time{p.machine.ExpireAt, p.machine.EchoAt, p.machine.EchoExpireAt} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		p.timer.Stop()
		return
	}
	p.timer.Reset(time.Until(next))
}

func (p *path) changed(before Machine) {
	p.since = time.Now()
	if before.State != Up && p.machine.State != Up {
		return
	}
	level := slog.LevelInfo
	if before.State == Up {
		level = slog.LevelWarn
	}
	p.room.log.Log(p.room.life, level, "bfd session changed", "peer", p.session.Peer,
		"state", p.machine.State, "was", before.State, "why", p.machine.Why)
	p.room.ring()
}

func (p *path) refuse(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = why
	if p.refused++; p.refused == 1 {
		p.room.log.Warn("bfd packet refused", "peer", p.session.Peer, "why", why)
	}
}

// end tells the peer AdminDown for a detection time, so that one lost packet does not
// make it report a failure, and closes the socket.
func (p *path) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		return
	}
	p.apply(Event{Now: time.Now(), Configured: true, Profile: p.profile(), AdminDown: true})
	p.timer.Stop()
	p.ended = true
	p.closeEcho()
	packet, out := p.machine.packet(false), p.out
	time.AfterFunc(p.session.Profile.Filled().Transmit, func() {
		// The second and last time. Nobody is left to hear of an error.
		_, _ = out.Write(packet.Marshal())
		_ = out.Close()
	})
}

func (p *path) report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.machine
	r := Report{
		Session: p.session, State: m.State, Since: p.since, Diag: m.Diag, RemoteDiag: m.Remote.Diag,
		RemoteState: m.Remote.State, Problem: p.problem, Detection: m.Detection(),
		LastDown: m.LastDown,
		Sent:     p.sent, Received: p.received, Refused: p.refused, Refusal: p.refusal, Ups: m.Ups, Downs: m.Downs, Breaks: m.Breaks,
	}
	if p.problem == "" {
		r.Transmit, r.Why = m.Interval(), m.Why
	} else {
		r.State = Down
	}
	return r
}

// leastTTL is 255 on a link, where no router may have touched the packet (RFC 5881 §5).
func (p *path) leastTTL() uint8 {
	if !p.key.multihop {
		return 255
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session.Profile.Filled().MinimumTTL
}
