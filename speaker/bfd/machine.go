package bfd

import (
	"fmt"
	"time"
)

// slow is the interval of a session that is not Up: RFC 5880 §6.8.3 wants at least 1 s.
const slow = time.Second

// Event is what happens to a Machine. The zero Event is the passing of time.
type Event struct {
	Now time.Time
	// Roll is a random number in [0,1): the jitter of the next transmission.
	Roll float64
	// Late is by how much the passing of time was noticed too late, if it was.
	Late time.Duration
	// Packet is what was received, if Received. Now is then its arrival.
	Received bool
	Packet   Packet
	// Profile and AdminDown are the new settings, if Configured. The Profile is filled.
	Configured bool
	Profile    Profile
	AdminDown  bool
	// Echoed tells that an echo packet of ours came back. Now is then its arrival.
	Echoed bool
}

// Machine is the state of one session (RFC 5880 §6.8.1): a value, changed by Step only.
type Machine struct {
	State  State
	Diag   Diag
	Remote Remote
	// Why says in one sentence what led to State.
	Why string
	// LastDown is what led out of Up the last time; empty for never.
	LastDown string
	// Ups and Downs count entries into and exits from Up.
	Ups, Downs uint64
	// Breaks counts those exits that we made because nothing came.
	Breaks uint64
	// SendAt is when the next packet is due, ExpireAt when the path counts as broken
	// unless a packet arrives; zero for never.
	SendAt, ExpireAt time.Time
	// EchoAt and EchoExpireAt are the same for echo packets, and Echoes counts those that were due.
	EchoAt, EchoExpireAt time.Time
	Echoes               uint64

	local   uint32
	profile Profile
	// What we advertise; and what is in force, which lags behind while the peer has
	// not yet confirmed a change for the worse (§6.8.3).
	desired, required time.Duration
	forceTx, forceRx  time.Duration
	polling           bool
	extended          bool // ExpireAt was put off since the last packet
	sentAt            time.Time
	interval          time.Duration // the transmit interval SendAt was computed with
}

// Remote is what the peer's last packet said.
type Remote struct {
	Discriminator         uint32
	State                 State
	Diag                  Diag
	Demand                bool
	Multiplier            uint8
	DesiredTx, RequiredRx time.Duration
	EchoRx                time.Duration // the shortest interval at which it takes echo packets; 0: not at all
}

// NewMachine returns a session in state Down that begins to send at once, unless it is
// passive. local is its discriminator: unique on this node, not 0.
func NewMachine(local uint32, profile Profile, now time.Time) Machine {
	profile = profile.Filled()
	m := Machine{
		State: Down, Why: "just started", local: local, profile: profile,
		Remote:  Remote{State: Down, RequiredRx: time.Microsecond},
		desired: max(slow, profile.Transmit), required: profile.Receive,
	}
	m.forceTx, m.forceRx = m.desired, m.required
	if m.sends() {
		m.SendAt = now
	}
	return m
}

// resumeTime is how long a resumed session waits at least for the first packet: a peer that has begun anew meanwhile
// sends one each second.
const resumeTime = 3 * time.Second

// Resumed returns a session that another process has led until now and that is Up for its peer: it tells the peer
// at once at which interval packets come from now on. remote is what the peer's last packet said.
func Resumed(local uint32, profile Profile, remote Remote, now time.Time) Machine {
	m := NewMachine(local, profile, now)
	m.State, m.Why, m.Ups = Up, "taken over from the speaker before", 1
	m.Remote = remote
	m.desired, m.forceTx = longestInterval, longestInterval // so that the change is told
	m.ExpireAt = now.Add(max(resumeTime, m.Detection()))
	return m
}

// Step returns the session after the event and the packets to send now, in order.
func Step(m Machine, e Event) (Machine, []Packet) {
	before := m
	final := false
	switch {
	case e.Configured:
		m = m.configure(e.Profile, e.AdminDown)
	case e.Received:
		m, final = m.receive(e.Packet, e.Now), e.Packet.Poll
	case e.Echoed:
		m.EchoExpireAt = e.Now.Add(m.echoDetection())
	case !m.ExpireAt.IsZero() && !e.Now.Before(m.ExpireAt):
		if m.patient(e.Late) {
			m.ExpireAt, m.extended = e.Now.Add(e.Late), true
		} else {
			m = m.expire()
		}
	}
	m = m.echo(e).negotiate()
	var send []Packet
	if final {
		send = append(send, m.packet(true))
	}
	urgent := m.State != before.State || m.desired != before.desired || m.required != before.required
	if due := !m.SendAt.IsZero() && !e.Now.Before(m.SendAt); m.sends() && (due || urgent) {
		send = append(send, m.packet(false))
		m = m.sent(e)
	}
	var hurried bool
	if m, hurried = m.rearm(e); hurried {
		send = append(send, m.packet(false))
		m = m.sent(e)
	}
	return m, send
}

// receive is RFC 5880 §6.8.6 from the point where the session is known.
func (m Machine) receive(p Packet, arrival time.Time) Machine {
	m.Remote = Remote{
		Discriminator: p.MyDiscriminator, State: p.State, Diag: p.Diag, Demand: p.Demand,
		Multiplier: p.Multiplier, DesiredTx: p.DesiredMinTx, RequiredRx: p.RequiredMinRx, EchoRx: p.RequiredMinEchoRx,
	}
	if p.Final && m.polling {
		m.polling = false
		m.forceTx, m.forceRx = m.desired, m.required
	}
	m.ExpireAt, m.extended = arrival.Add(m.Detection()), false
	if m.State == AdminDown {
		return m
	}
	return m.follow(p.State)
}

// follow is the state table of RFC 5880 §6.2.
func (m Machine) follow(remote State) Machine {
	switch {
	case remote == AdminDown && m.State != Down:
		return m.enter(Down, NeighborSignaledDown, "the peer is administratively down")
	case remote == Down && m.State == Up:
		return m.enter(Down, NeighborSignaledDown, fmt.Sprintf("the peer says it is down: %s", m.Remote.Diag))
	case remote == Down && m.State == Down:
		return m.enter(Init, m.Diag, "the peer is there and does not hear us yet")
	case remote == Init && m.State != Up, remote == Up && m.State == Init:
		return m.enter(Up, NoDiagnostic, "both directions work")
	}
	return m
}

// patient says whether the detection time is put off, once, by as much as it was noticed
// late: a node that stood still (a paused virtual machine, no CPU for us) has proven
// nothing about the path.
func (m Machine) patient(late time.Duration) bool {
	return late > m.Detection()/8 && !m.extended
}

func (m Machine) expire() Machine {
	m.ExpireAt = time.Time{}
	m.Remote.Discriminator = 0
	if m.State == Up || m.State == Init {
		why := fmt.Sprintf("nothing heard for %s", m.Detection())
		m.Breaks++
		m = m.enter(Down, DetectionTimeExpired, why)
	}
	m.Remote.RequiredRx = time.Microsecond // §6.8.1: as if never heard of
	m.Remote.Demand = false
	return m
}

func (m Machine) enter(state State, diag Diag, why string) Machine {
	if m.State == Up {
		m.Downs++
		m.LastDown = why
	}
	if state == Up {
		m.Ups++
	}
	m.State, m.Diag, m.Why = state, diag, why
	m.polling, m.forceTx, m.forceRx = false, m.desired, m.required
	return m
}

func (m Machine) configure(p Profile, adminDown bool) Machine {
	m.profile = p
	switch {
	case adminDown && m.State != AdminDown:
		m = m.enter(AdminDown, AdministrativelyDown, "switched off")
	case !adminDown && m.State == AdminDown:
		m = m.enter(Down, NoDiagnostic, "switched on")
	}
	return m
}

// negotiate brings what we advertise in line with state and profile. A change is told
// to the peer by a poll sequence; what would make the peer lose us (sending more
// slowly, expecting more) waits for its answer while we are Up (§6.8.3).
func (m Machine) negotiate() Machine {
	desired, required := m.profile.Transmit, m.profile.Receive
	if m.State != Up {
		desired = max(slow, desired)
	}
	if m.echoes() { // which watch the path: control packets may be rare (§6.8.3)
		required = max(slow, required)
	}
	if desired == m.desired && required == m.required {
		return m
	}
	m.desired, m.required = desired, required
	m.polling = m.State == Up
	if !m.polling || desired < m.forceTx {
		m.forceTx = desired
	}
	if !m.polling || required > m.forceRx {
		m.forceRx = required
	}
	return m
}

// echo is RFC 5880 §6.8.5 and §6.8.9: when the next echo packet is due, and until when one must have come back.
func (m Machine) echo(e Event) Machine {
	switch {
	case !m.echoes():
		m.EchoAt, m.EchoExpireAt = time.Time{}, time.Time{}
		return m
	case m.EchoAt.IsZero(): // the first may have to wait for the peer's MAC address
		m.EchoAt, m.EchoExpireAt = e.Now, e.Now.Add(max(slow, m.echoDetection()))
	case e.Now.Before(m.EchoExpireAt):
	case e.Late > m.echoDetection()/8 && !m.extended: // see patient
		m.EchoExpireAt, m.extended = e.Now.Add(e.Late), true
	default:
		m.EchoAt, m.EchoExpireAt = time.Time{}, time.Time{}
		m.Breaks++
		return m.enter(Down, EchoFailed, fmt.Sprintf("no echo came back for %s", m.echoDetection()))
	}
	if !e.Now.Before(m.EchoAt) {
		m.Echoes++
		m.EchoAt = e.Now.Add(m.jitter(m.echoInterval(), e.Roll))
	}
	return m
}

// echoes tells whether echo packets are sent.
func (m Machine) echoes() bool {
	return m.profile.EchoMode && m.State == Up && m.Remote.State == Up && m.Remote.EchoRx > 0
}

func (m Machine) echoInterval() time.Duration {
	return max(m.profile.Echo, Shortest, m.Remote.EchoRx)
}

func (m Machine) echoDetection() time.Duration {
	return time.Duration(m.profile.Multiplier) * m.echoInterval()
}

// rearm computes when the next packet is due. When the interval has become shorter,
// the packet that was to come after the old one is due at once: the peer has already
// begun to count the new one (entering Up, or its RequiredMinRx got smaller).
func (m Machine) rearm(e Event) (_ Machine, hurried bool) {
	if !m.sends() {
		m.SendAt, m.interval = time.Time{}, 0
		return m, false
	}
	interval := m.Interval()
	shorter := m.interval != 0 && interval < m.interval && m.sentAt.Before(e.Now)
	if interval != m.interval || m.SendAt.IsZero() {
		m.interval = interval
		m.SendAt = m.sentAt.Add(m.jitter(interval, e.Roll))
	}
	return m, shorter
}

func (m Machine) sent(e Event) Machine {
	m.sentAt, m.interval = e.Now, m.Interval()
	m.SendAt = e.Now.Add(m.jitter(m.interval, e.Roll))
	return m
}

// jitter shortens an interval by up to a quarter, and by at least a tenth if a single
// lost packet counts (§6.8.7).
func (m Machine) jitter(d time.Duration, roll float64) time.Duration {
	least := 0.0
	if m.profile.Multiplier == 1 {
		least = 0.10
	}
	return d - time.Duration(float64(d)*(least+roll*(0.25-least)))
}

// sends says whether packets go out periodically (§6.8.7).
func (m Machine) sends() bool {
	if m.profile.Passive && m.Remote.Discriminator == 0 {
		return false
	}
	if m.Remote.Demand && m.State == Up && m.Remote.State == Up && !m.polling {
		return false
	}
	return m.Remote.RequiredRx != 0
}

// Interval is the time between our packets before jitter.
func (m Machine) Interval() time.Duration { return max(m.forceTx, m.Remote.RequiredRx) }

// Detection is how long nothing may be heard; 0 before the peer was first heard.
func (m Machine) Detection() time.Duration {
	return time.Duration(m.Remote.Multiplier) * max(m.forceRx, m.Remote.DesiredTx)
}

func (m Machine) packet(final bool) Packet {
	echo := m.profile.Echo
	if m.profile.NoLoop {
		echo = 0
	}
	return Packet{
		Diag: m.Diag, State: m.State, Multiplier: m.profile.Multiplier,
		Poll: m.polling && !final, Final: final,
		MyDiscriminator: m.local, YourDiscriminator: m.Remote.Discriminator,
		DesiredMinTx: m.desired, RequiredMinRx: m.required, RequiredMinEchoRx: echo,
	}
}
