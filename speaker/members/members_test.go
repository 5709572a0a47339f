package members

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var key = []byte("0123456789abcdef0123456789abcdef")

// speaker is a member of a test's cluster, on a port of its own on loopback.
type speaker struct {
	*Gossip
	bell chan struct{}
}

func open(t *testing.T, name string, port uint16, key []byte, log *slog.Logger) *speaker {
	t.Helper()
	s := &speaker{bell: make(chan struct{}, 1)}
	var err error
	s.Gossip, err = Open(Config{
		Name: name, Bind: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Key: key, Rejoin: 200 * time.Millisecond,
	}, log, s.bell)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cluster starts members that have all others as peers, and closes them at the end.
func cluster(t *testing.T, names ...string) map[string]*speaker {
	t.Helper()
	all := map[string]*speaker{}
	var peers []netip.AddrPort
	for _, name := range names {
		s := open(t, name, 0, key, slog.New(slog.DiscardHandler))
		t.Cleanup(func() { _ = s.Close() })
		all[name] = s
		peers = append(peers, s.Address())
	}
	for _, s := range all {
		s.SetPeers(peers)
	}
	return all
}

// describe is what a member sees of all, in one line.
func (s *speaker) describe() string {
	var words []string
	for _, m := range s.Snapshot() {
		words = append(words, fmt.Sprintf("%s:%s:%s", m.Name, m.State, m.Meta))
	}
	return strings.Join(words, " ")
}

// sees waits, woken by the bell alone, until a member sees what it should, and returns how long that took.
func (s *speaker) sees(t *testing.T, want string) time.Duration {
	t.Helper()
	began := time.Now()
	limit := time.NewTimer(15 * time.Second)
	defer limit.Stop()
	for s.describe() != want {
		select {
		case <-s.bell:
		case <-limit.C:
			t.Fatalf("%s sees %q, want %q", s.cfg.Name, s.describe(), want)
		}
	}
	return time.Since(began)
}

func TestMetaReachesEverybody(t *testing.T) {
	all := cluster(t, "a", "b", "c")
	large := strings.Repeat("x", MaxMeta)
	for name, s := range all {
		if err := s.SetMeta([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range all {
		s.sees(t, "a:alive:a b:alive:b c:alive:c")
	}
	if err := all["b"].SetMeta([]byte(large)); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Logf("16 KiB after %s", s.sees(t, "a:alive:a b:alive:"+large+" c:alive:c"))
	}
	if err := all["b"].SetMeta([]byte(large + "x")); err == nil {
		t.Error("a meta that is too large was taken")
	}
}

func TestLeaveIsSeenAtOnceAndDeathWithinASecond(t *testing.T) {
	all := cluster(t, "a", "b", "c")
	all["a"].sees(t, "a:alive: b:alive: c:alive:")
	all["b"].sees(t, "a:alive: b:alive: c:alive:")
	if err := all["c"].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("goodbye seen after %s", all["a"].sees(t, "a:alive: b:alive: c:left:"))
	all["b"].sees(t, "a:alive: b:alive: c:left:")
	if err := all["b"].Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("death seen after %s", all["a"].sees(t, "a:alive: b:dead: c:left:"))
}

func TestRestartUnderTheSameName(t *testing.T) {
	all := cluster(t, "a", "b")
	if err := all["b"].SetMeta([]byte("old")); err != nil {
		t.Fatal(err)
	}
	all["a"].sees(t, "a:alive: b:alive:old")
	address := all["b"].Address()
	if err := all["b"].Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, "b", address.Port(), key, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = again.Close() })
	again.SetPeers([]netip.AddrPort{all["a"].Address(), address})
	if err := again.SetMeta([]byte("new")); err != nil {
		t.Fatal(err)
	}
	all["a"].sees(t, "a:alive: b:alive:new")
	again.sees(t, "a:alive: b:alive:new")
}

func TestTheDeadAreForgottenOnceTheyAreNoPeers(t *testing.T) {
	all := cluster(t, "a", "b")
	all["a"].sees(t, "a:alive: b:alive:")
	if err := all["b"].Close(); err != nil {
		t.Fatal(err)
	}
	all["a"].sees(t, "a:alive: b:dead:")
	all["a"].SetPeers(nil)
	all["a"].sees(t, "a:alive:")
}

func TestAnotherKeyIsNotHeard(t *testing.T) {
	var logged bytes.Buffer
	a := open(t, "a", 0, key, slog.New(slog.NewTextHandler(&logged, nil)))
	stranger := open(t, "stranger", 0, []byte("fedcba9876543210fedcba9876543210"), slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = stranger.Close() })
	if _, err := stranger.list.Join([]string{a.Address().String()}); err == nil {
		t.Error("a stranger could join")
	}
	if got := a.describe(); got != "a:alive:" {
		t.Errorf("a sees %q", got)
	}
	if err := a.Leave(t.Context()); err != nil { // also ends who writes the log
		t.Fatal(err)
	}
	if strings.Contains(logged.String(), string(key)) {
		t.Error("the key is in the log")
	}
}

func TestKeyOfAWrongLength(t *testing.T) {
	_, err := Open(Config{Name: "a", Bind: netip.MustParseAddrPort("127.0.0.1:0"), Key: []byte("short")}, slog.New(slog.DiscardHandler), nil)
	if err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("Open: %v, want an error that does not show the key", err)
	}
}

// A clock that went back over a restart must not make a member's news look old.
func TestNotesOfAnEarlierLifeAreOutdone(t *testing.T) {
	b := newBook("a", make(chan struct{}, 1))
	future := uint64(time.Now().Add(24 * time.Hour).UnixNano())
	b.setMeta([]byte("new"))
	b.read(note{name: "a", version: future, meta: []byte("old")}.append(nil))
	message, version, news := b.newsFor("b")
	if !news || version <= future || !bytes.Contains(message, []byte("new")) {
		t.Errorf("the note is %q, version %d, news %t; want the new meta with a version above %d", message, version, news, future)
	}
}

func TestParseNotes(t *testing.T) {
	two := []note{{"a", 1, true, []byte("x")}, {"node-b", 1 << 60, false, nil}}
	good := two[1].append(two[0].append(nil))
	for cut := range len(good) {
		if got := parseNotes(good[:cut]); len(got) > 1 || len(got) == 1 && got[0].name != "a" {
			t.Errorf("cut at %d: %v", cut, got)
		}
	}
	if diff := cmp.Diff(two, parseNotes(good), cmp.AllowUnexported(note{})); diff != "" {
		t.Errorf("parseNotes (-want +got):\n%s", diff)
	}
}

func FuzzParseNotes(f *testing.F) {
	f.Add(note{"node1", 7, false, []byte("meta")}.append(nil))
	f.Add([]byte{1, 'a', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, from []byte) {
		var again []byte
		for _, n := range parseNotes(from) {
			again = n.append(again)
		}
		if !bytes.HasPrefix(from, again) {
			t.Errorf("parseNotes(%x) means %x", from, again)
		}
	})
}
