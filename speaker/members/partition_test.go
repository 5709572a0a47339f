package members

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// childEnv makes the test binary a member: memberlist opens sockets in many goroutines,
// so that a network namespace of its own takes a process of its own.
const childEnv = "FAIRLEAD_TEST_MEMBER"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		if err := child(cfg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type childConfig struct {
	Name  string
	Bind  netip.AddrPort
	Peers []netip.AddrPort
}

// child is a member until its input ends; it prints its snapshot after every ring.
func child(text string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	bell := make(chan struct{}, 1)
	g, err := Open(Config{Name: cfg.Name, Bind: cfg.Bind, Key: testKey}, slog.New(slog.DiscardHandler), bell)
	if err != nil {
		return err
	}
	if err := g.SetMeta([]byte("of " + cfg.Name)); err != nil {
		return err
	}
	g.SetPeers(cfg.Peers)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		fmt.Println(strings.Join(describe(g.Snapshot()), ", "))
		select {
		case <-bell:
		case <-ended:
			return g.Close()
		}
	}
}

// process is a member in a network namespace of its own.
type process struct {
	t    *testing.T
	name string
	mu   sync.Mutex
	last string
	news chan struct{}
}

func (p *process) sees(want string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		have := p.last
		p.mu.Unlock()
		if have == want {
			return
		}
		select {
		case <-p.news:
		case <-deadline:
			p.t.Fatalf("%s sees %q, want %q", p.name, have, want)
		}
	}
}

// halves are two switches with a cable between them, each in the same namespace.
type halves struct {
	t      *testing.T
	prefix string
	ns     netns.NsHandle
	nl     *netlink.Handle
}

func newHalves(t *testing.T) *halves {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	h := &halves{t: t, prefix: "fl-mem-" + hex.EncodeToString(b)}
	h.ns, h.nl = h.namespace("hub")
	for _, side := range []string{"left", "right"} {
		a := netlink.NewLinkAttrs()
		a.Name = side
		snooping := false
		must(t, h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: a, MulticastSnooping: &snooping}))
		must(t, h.nl.LinkSetUp(h.link(side)))
	}
	a := netlink.NewLinkAttrs()
	a.Name = "cable-left"
	must(t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "cable-right"}))
	for _, side := range []string{"left", "right"} {
		must(t, h.nl.LinkSetMaster(h.link("cable-"+side), h.link(side)))
		must(t, h.nl.LinkSetUp(h.link("cable-"+side)))
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *halves) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	must(h.t, err)
	return l
}

func (h *halves) namespace(name string) (netns.NsHandle, *netlink.Handle) {
	full := h.prefix + "-" + name
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(h.t, err)
	defer home.Close()
	ns, err := netns.NewNamed(full)
	must(h.t, netns.Set(home))
	must(h.t, err)
	nl, err := netlink.NewHandleAt(ns)
	must(h.t, err)
	h.t.Cleanup(func() {
		nl.Close()
		ns.Close()
		if err := netns.DeleteNamed(full); err != nil {
			h.t.Errorf("delete namespace %s: %v", full, err)
		}
	})
	return ns, nl
}

// member plugs a new namespace into one half and starts a member in it.
func (h *halves) member(side string, n int, peers []netip.AddrPort) *process {
	h.t.Helper()
	name := fmt.Sprintf("n%d", n)
	ns, nl := h.namespace(name)
	defer nl.Close()
	a := netlink.NewLinkAttrs()
	a.Name = name
	must(h.t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}))
	must(h.t, h.nl.LinkSetMaster(h.link(name), h.link(side)))
	must(h.t, h.nl.LinkSetUp(h.link(name)))
	eth, err := nl.LinkByName("eth0")
	must(h.t, err)
	addr, err := netlink.ParseAddr(fmt.Sprintf("192.0.2.%d/24", n))
	must(h.t, err)
	must(h.t, nl.AddrAdd(eth, addr))
	must(h.t, nl.LinkSetUp(eth))

	p := &process{t: h.t, name: name, news: make(chan struct{}, 1)}
	cfg, err := json.Marshal(childConfig{Name: name, Bind: peers[slices.IndexFunc(peers, func(p netip.AddrPort) bool {
		return p.Addr() == netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	})], Peers: peers})
	must(h.t, err)
	p.run(ns, string(cfg))
	return p
}

// run starts the child in the namespace; it ends with the test.
func (p *process) run(ns netns.NsHandle, cfg string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+cfg)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(p.t, err)
	out, err := cmd.StdoutPipe()
	must(p.t, err)
	// A process starts in the namespace of the thread that forks it.
	runtime.LockOSThread()
	home, err := netns.Get()
	must(p.t, err)
	must(p.t, netns.Set(ns))
	err = cmd.Start()
	must(p.t, netns.Set(home))
	home.Close()
	runtime.UnlockOSThread()
	must(p.t, err)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); ring(p.news) {
			p.mu.Lock()
			p.last = lines.Text()
			p.mu.Unlock()
		}
	}()
	p.t.Cleanup(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			p.t.Errorf("%s: %v", p.name, err)
		}
	})
}

// TestPartitionAndHealing cuts the cable between two halves and mends it.
func TestPartitionAndHealing(t *testing.T) {
	h := newHalves(t)
	var peers []netip.AddrPort
	for n := 1; n <= 4; n++ {
		peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 7947))
	}
	left := []*process{h.member("left", 1, peers), h.member("left", 2, peers)}
	right := []*process{h.member("right", 3, peers), h.member("right", 4, peers)}
	all := slices.Concat(left, right)
	whole := "n1 alive of n1, n2 alive of n2, n3 alive of n3, n4 alive of n4"
	for _, p := range all {
		p.sees(whole)
	}

	begin := time.Now()
	must(t, h.nl.LinkSetDown(h.link("cable-left")))
	for _, p := range left {
		p.sees("n1 alive of n1, n2 alive of n2, n3 dead of n3, n4 dead of n4")
	}
	for _, p := range right {
		p.sees("n1 dead of n1, n2 dead of n2, n3 alive of n3, n4 alive of n4")
	}
	t.Logf("both halves were alone after %s", time.Since(begin))

	begin = time.Now()
	must(t, h.nl.LinkSetUp(h.link("cable-left")))
	for _, p := range all {
		p.sees(whole)
	}
	took := time.Since(begin)
	t.Logf("one again after %s", took)
	if took > 6*time.Second {
		t.Errorf("healing took %s, want 5 s and one more at most", took)
	}
}
