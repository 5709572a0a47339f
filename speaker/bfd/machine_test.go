package bfd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Unix(1000, 0)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// hear steps m with a packet of the given state, from a peer that wants 100 ms both ways.
func hear(m Machine, now time.Duration, state State, change func(*Packet)) (Machine, []Packet) {
	p := Packet{
		State: state, Multiplier: 3, MyDiscriminator: 7, YourDiscriminator: m.local,
		DesiredMinTx: 100 * time.Millisecond, RequiredMinRx: 100 * time.Millisecond,
	}
	if change != nil {
		change(&p)
	}
	return Step(m, Event{Now: at(now), Received: true, Packet: p})
}

func fast() Profile {
	return Profile{Receive: 100 * time.Millisecond, Transmit: 100 * time.Millisecond}.Filled()
}

func up(t *testing.T) Machine {
	t.Helper()
	m := NewMachine(42, fast(), epoch)
	m, _ = Step(m, Event{Now: at(0)})
	m, _ = hear(m, 500*time.Millisecond, Init, nil)
	if m.State != Up {
		t.Fatalf("state %s, want Up", m.State)
	}
	return m
}

// The state table of RFC 5880 §6.2 and §6.8.6, all of it.
func TestStates(t *testing.T) {
	type result struct {
		State State
		Diag  Diag
	}
	tests := []struct {
		from, heard State
		want        result
	}{
		{Down, AdminDown, result{Down, NoDiagnostic}},
		{Down, Down, result{Init, NoDiagnostic}},
		{Down, Init, result{Up, NoDiagnostic}},
		{Down, Up, result{Down, NoDiagnostic}},
		{Init, AdminDown, result{Down, NeighborSignaledDown}},
		{Init, Down, result{Init, NoDiagnostic}},
		{Init, Init, result{Up, NoDiagnostic}},
		{Init, Up, result{Up, NoDiagnostic}},
		{Up, AdminDown, result{Down, NeighborSignaledDown}},
		{Up, Down, result{Down, NeighborSignaledDown}},
		{Up, Init, result{Up, NoDiagnostic}},
		{Up, Up, result{Up, NoDiagnostic}},
		{AdminDown, Down, result{AdminDown, NoDiagnostic}},
		{AdminDown, Up, result{AdminDown, NoDiagnostic}},
	}
	for _, test := range tests {
		t.Run(test.from.String()+" hears "+test.heard.String(), func(t *testing.T) {
			m := NewMachine(42, fast(), epoch)
			m.State = test.from
			m, _ = hear(m, time.Second, test.heard, nil)
			if diff := cmp.Diff(test.want, result{m.State, m.Diag}); diff != "" {
				t.Error("(-want +got)", diff)
			}
		})
	}
}

// Entering Up shortens our interval from 1 s: the packet of the old interval is not
// waited for, or the peer, which counts 100 ms from now on, expires us.
func TestEnteringUpSendsAtOnce(t *testing.T) {
	m := NewMachine(42, fast(), epoch)
	m, _ = Step(m, Event{Now: at(0)}) // next one due after 0.75–1 s
	m, sent := hear(m, 50*time.Millisecond, Init, nil)
	want := []Packet{{
		State: Up, Poll: true, Multiplier: 3, MyDiscriminator: 42, YourDiscriminator: 7,
		DesiredMinTx: 100 * time.Millisecond, RequiredMinRx: 100 * time.Millisecond, RequiredMinEchoRx: 50 * time.Millisecond,
	}}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error("(-want +got)", diff)
	}
	if due := m.SendAt.Sub(at(50 * time.Millisecond)); due > 100*time.Millisecond {
		t.Errorf("next packet in %s, want at most 100ms", due)
	}
}

// The peer's poll lowers its RequiredMinRx: the timer of the longer interval must not
// run on.
func TestPeersShorterIntervalRearms(t *testing.T) {
	m := NewMachine(42, fast(), epoch)
	m, _ = Step(m, Event{Now: at(0)})
	slowPeer := func(p *Packet) { p.RequiredMinRx = time.Second }
	m, _ = hear(m, 10*time.Millisecond, Init, slowPeer)
	if got := m.Interval(); got != time.Second {
		t.Fatalf("interval %s, want 1s", got)
	}
	m, sent := hear(m, 60*time.Millisecond, Up, func(p *Packet) { p.Poll = true })
	if len(sent) != 2 || !sent[0].Final || sent[0].Poll || sent[1].Final {
		t.Errorf("sent %+v, want a Final, then a packet of the new interval", sent)
	}
	if due := m.SendAt.Sub(at(60 * time.Millisecond)); due > 100*time.Millisecond {
		t.Errorf("next packet in %s, want at most 100ms", due)
	}
}

func TestDetection(t *testing.T) {
	m := up(t)
	m, _ = hear(m, time.Second, Up, nil)
	if want := at(1300 * time.Millisecond); !m.ExpireAt.Equal(want) {
		t.Fatalf("expires at %v, want %v", m.ExpireAt, want)
	}
	m, _ = Step(m, Event{Now: at(1299 * time.Millisecond)})
	if m.State != Up {
		t.Fatalf("down too early: %s", m.Why)
	}
	m, sent := Step(m, Event{Now: at(1300 * time.Millisecond)})
	if m.State != Down || m.Diag != DetectionTimeExpired || m.Why != "nothing heard for 300ms" || m.Downs != 1 {
		t.Errorf("state %s, diag %s, why %q", m.State, m.Diag, m.Why)
	}
	if len(sent) != 1 || sent[0].State != Down || sent[0].Diag != DetectionTimeExpired || sent[0].YourDiscriminator != 0 {
		t.Errorf("sent %+v, want one packet that says Down", sent)
	}
}

// Who was asleep waits once more for as long as that, and not for ever.
func TestLateness(t *testing.T) {
	m := up(t)
	m, _ = hear(m, time.Second, Up, nil) // expires at 1.3 s
	m, _ = Step(m, Event{Now: at(1500 * time.Millisecond), Late: 200 * time.Millisecond})
	if m.State != Up || !m.ExpireAt.Equal(at(1700*time.Millisecond)) {
		t.Fatalf("%s, expires at %s; want Up, 1.7 s", m.State, m.ExpireAt.Sub(epoch))
	}
	if heard, _ := hear(m, 1600*time.Millisecond, Up, nil); heard.State != Up || heard.extended {
		t.Errorf("%s after a packet, want Up and as patient as before", heard.State)
	}
	m, _ = Step(m, Event{Now: at(1900 * time.Millisecond), Late: 200 * time.Millisecond})
	if m.State != Down {
		t.Errorf("%s, want Down: it was put off once already", m.State)
	}
}

// A slower profile is told by a poll and used when the peer has answered (§6.8.3).
func TestSlowerWaitsForThePoll(t *testing.T) {
	m := up(t)
	m, _ = hear(m, 600*time.Millisecond, Up, func(p *Packet) { p.Final = true })
	slower := Profile{Receive: 400 * time.Millisecond, Transmit: 400 * time.Millisecond}.Filled()
	m, sent := Step(m, Event{Now: at(700 * time.Millisecond), Configured: true, Profile: slower})
	if len(sent) != 1 || !sent[0].Poll || sent[0].DesiredMinTx != 400*time.Millisecond {
		t.Fatalf("sent %+v, want a poll with the new interval", sent)
	}
	if m.Interval() != 100*time.Millisecond || m.Detection() != 1200*time.Millisecond {
		t.Errorf("interval %s, detection %s before the answer, want 100ms, 1.2s", m.Interval(), m.Detection())
	}
	m, _ = hear(m, 710*time.Millisecond, Up, func(p *Packet) { p.Final = true })
	if m.Interval() != 400*time.Millisecond {
		t.Errorf("interval %s after the answer, want 400ms", m.Interval())
	}
}

func TestPassiveWaits(t *testing.T) {
	p := fast()
	p.Passive = true
	m := NewMachine(42, p, epoch)
	if m, sent := Step(m, Event{Now: at(0)}); len(sent) != 0 || !m.SendAt.IsZero() {
		t.Errorf("sent %+v, due %v, want silence", sent, m.SendAt)
	}
	if _, sent := hear(m, 0, Down, nil); len(sent) != 1 || sent[0].State != Init {
		t.Errorf("sent %+v, want Init", sent)
	}
}

func TestAdminDown(t *testing.T) {
	m := up(t)
	m, sent := Step(m, Event{Now: at(time.Second), Configured: true, Profile: fast(), AdminDown: true})
	if len(sent) != 1 || sent[0].State != AdminDown || sent[0].Diag != AdministrativelyDown {
		t.Errorf("sent %+v, want AdminDown", sent)
	}
	m, _ = hear(m, 1100*time.Millisecond, Up, nil)
	if m.State != AdminDown {
		t.Errorf("state %s, want AdminDown whatever is heard", m.State)
	}
}

func TestJitter(t *testing.T) {
	for _, test := range []struct {
		multiplier uint8
		roll       float64
		want       time.Duration
	}{
		{3, 0, 100 * time.Millisecond}, {3, 1, 75 * time.Millisecond},
		{1, 0, 90 * time.Millisecond}, {1, 1, 75 * time.Millisecond},
	} {
		m := Machine{profile: Profile{Multiplier: test.multiplier}}
		if got := m.jitter(100*time.Millisecond, test.roll); got != test.want {
			t.Errorf("multiplier %d, roll %v: %s, want %s", test.multiplier, test.roll, got, test.want)
		}
	}
}

// Two machines that hear each other come up and stay up, whatever their profiles and
// however their timers fall, over a link with a delay.
func TestTwoMachinesStayUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Profile {
			ms := rapid.SampledFrom([]int{50, 100, 300, 1000, 2000})
			return Profile{
				Receive:    time.Duration(ms.Draw(t, name+" rx")) * time.Millisecond,
				Transmit:   time.Duration(ms.Draw(t, name+" tx")) * time.Millisecond,
				Multiplier: uint8(rapid.IntRange(2, 5).Draw(t, name+" multiplier")),
			}.Filled()
		}
		delay := time.Duration(rapid.IntRange(0, 10).Draw(t, "delay")) * time.Millisecond
		rolls := rapid.SliceOfN(rapid.Float64Range(0, 0.999), 16, 16).Draw(t, "rolls")
		pair := [2]Machine{NewMachine(1, draw("a"), epoch), NewMachine(2, draw("b"), epoch)}
		simulate(pair[:], delay, rolls, 30*time.Second)
		for i, m := range pair {
			if m.State != Up || m.Downs != 0 || m.Ups != 1 {
				t.Fatalf("machine %d: %s after %d ups, %d downs: %s", i, m.State, m.Ups, m.Downs, m.Why)
			}
		}
	})
}

func simulate(pair []Machine, delay time.Duration, rolls []float64, length time.Duration) {
	type flying struct {
		arrives time.Time
		packet  Packet
	}
	var air [2][]flying // towards machine i, in order
	for n, now := 0, epoch; now.Before(epoch.Add(length)); now = now.Add(time.Millisecond) {
		for i := range pair {
			events := []Event{}
			for len(air[i]) > 0 && !air[i][0].arrives.After(now) {
				events = append(events, Event{Now: now, Received: true, Packet: air[i][0].packet})
				air[i] = air[i][1:]
			}
			for _, e := range append(events, Event{Now: now}) {
				var out []Packet
				e.Roll = rolls[n%len(rolls)]
				n++
				pair[i], out = Step(pair[i], e)
				for _, p := range out {
					air[1-i] = append(air[1-i], flying{now.Add(delay), p})
				}
			}
		}
	}
}

// Echo packets are due at the longer of both intervals, make control packets rare, and break the path when none comes back
// for the detection time; a node that stood still gets one more.
func TestEchoPackets(t *testing.T) {
	profile := fast()
	profile.EchoMode, profile.Echo = true, 100*time.Millisecond
	wants := func(interval time.Duration) func(*Packet) {
		return func(p *Packet) { p.RequiredMinEchoRx = interval }
	}
	start := func(remote time.Duration) Machine {
		m := NewMachine(42, profile, epoch)
		m, _ = hear(m, 0, Init, wants(remote))
		m, _ = hear(m, 10*time.Millisecond, Up, wants(remote))
		return m
	}
	if m := start(0); m.Echoes != 0 || m.required != 100*time.Millisecond {
		t.Errorf("the peer takes none: %d were due, control packets every %s", m.Echoes, m.required)
	}
	m := start(200 * time.Millisecond)
	if m.Echoes != 1 || m.required != slow {
		t.Errorf("%d were due, control packets every %s", m.Echoes, m.required)
	}
	m, _ = Step(m, Event{Now: at(209 * time.Millisecond), Roll: 0})
	if m.Echoes != 1 {
		t.Error("the second is too early")
	}
	m, _ = Step(m, Event{Now: at(210 * time.Millisecond), Echoed: true})
	if want := at(810 * time.Millisecond); m.Echoes != 2 || !m.EchoExpireAt.Equal(want) {
		t.Errorf("%d were due, broken at %s, want 2, %s", m.Echoes, m.EchoExpireAt, want)
	}
	m, _ = hear(m, 800*time.Millisecond, Up, wants(200*time.Millisecond))
	late, _ := Step(m, Event{Now: at(910 * time.Millisecond), Late: 100 * time.Millisecond})
	if late.State != Up || !late.EchoExpireAt.Equal(at(1010*time.Millisecond)) {
		t.Errorf("a node that stood still: %s, broken at %s", late.State, late.EchoExpireAt)
	}
	m, _ = Step(m, Event{Now: at(810 * time.Millisecond)})
	if m.State != Down || m.Diag != EchoFailed || m.Breaks != 1 || !m.EchoAt.IsZero() || m.required != 100*time.Millisecond {
		t.Errorf("%+v", m)
	}
}
