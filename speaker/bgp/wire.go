package bgp

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"
)

// connection joins the peer's TCP connection with gobgp's. It lives from the connect to
// the first thing that ends it, which it then returns.
type connection struct {
	settings  Peer
	peer      net.Conn
	gobgp     net.Conn
	restarted bool
	// changed is told of every step towards Established.
	changed func(State)
	// gone is closed when the peer's connection is.
	gone chan struct{}
	// introduced is closed when the peer's OPEN has come.
	introduced chan struct{}
	// vouched is closed when routes need not wait for the path any more.
	vouched chan struct{}
	// ring is called when routes no longer wait.
	ring func()

	writing sync.Mutex // whole messages to the peer
	waiting []byte     // UPDATEs that wait for the path

	mu       sync.Mutex
	state    State
	phase    phase
	theirs   opened
	ours     opened
	ready    bool // gobgp has sent its first KEEPALIVE
	updates  uint64
	ignored  uint64
	farewell *objection
	awaited  string // the message that must come in time; "" for none
	halted   bool
	released bool // UPDATEs do not wait any more
	told     bool // the peer has been sent a NOTIFICATION and the end of our data
}

// patience is how long a peer that took the connection may take for its OPEN, and then for
// its first KEEPALIVE. RFC 4271 suggests 4 minutes and the hold time: a router that is alive answers at
// once, and one that has lost the connection while it tidied up the session before never does.
const patience = 10 * time.Second

// run moves messages until one side ends, and says why it did.
func (c *connection) run() error {
	c.await("OPEN")
	ends := make(chan error, 2)
	go func() { ends <- c.inward() }()
	go func() { ends <- c.outward() }()
	err := <-ends
	var against *objection
	if errors.As(err, &against) {
		c.tell(against)
		err = fmt.Errorf("the session was ended because of the peer: %w", against)
	}
	c.halt()
	err = cmp.Or(err, <-ends) // the other way ends because of the halt
	c.part()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell != nil {
		return errors.New(c.farewell.why)
	}
	return err
}

// await bounds the time until a message; what is "" for any time.
func (c *connection) await(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.halted {
		return
	}
	c.awaited = what
	var limit time.Time
	if what != "" {
		limit = time.Now().Add(patience)
	}
	_ = c.peer.SetReadDeadline(limit) // it fails if the connection is closed, and so will the next read
}

// halt makes both ways end. The peer's connection stays open.
func (c *connection) halt() {
	c.mu.Lock()
	c.halted = true
	c.mu.Unlock()
	_ = c.peer.SetDeadline(time.Now().Add(-time.Second)) // as above
	c.gobgp.Close()
}

// part waits in the background until the peer has closed its end too, if it was told why: a router that meets our
// next connection while it still has this one might confuse the two, and data that nobody reads would make this end a
// reset, which may overtake the NOTIFICATION.
func (c *connection) part() {
	c.mu.Lock()
	told := c.told
	c.mu.Unlock()
	if !told {
		c.peer.Close()
		close(c.gone)
		return
	}
	go func() {
		defer close(c.gone)
		defer c.peer.Close()
		if c.peer.SetReadDeadline(time.Now().Add(time.Second)) == nil {
			_, _ = io.Copy(io.Discard, c.peer) // however it ends, it has ended
		}
	}()
}

// leave ends the session from our side: with these words, or without any (nil), which
// makes a peer with graceful restart keep our routes.
func (c *connection) leave(words *objection) {
	c.mu.Lock()
	c.farewell = words
	if words == nil {
		c.farewell = &objection{why: "the speaker left without a word, to come back"}
	}
	c.mu.Unlock()
	if words != nil {
		c.tell(words)
	}
	c.halt()
}

// tell sends a NOTIFICATION. A peer that reads nothing does not get one.
func (c *connection) tell(words *objection) {
	// The deadline also ends a write that hangs. An error below means that the peer is
	// gone: there is nobody to tell.
	if err := c.peer.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := c.peer.Write(words.notification()); err != nil {
		return
	}
	if tcp, ok := c.peer.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		c.mu.Lock()
		c.told = true
		c.mu.Unlock()
	}
}

// inward is the way from the peer to gobgp.
func (c *connection) inward() error {
	reader := bufio.NewReaderSize(c.peer, longest)
	f := filter{peer: c.settings}
	for {
		m, err := readMessage(reader)
		if errors.Is(err, io.EOF) {
			return errors.New("the peer closed the connection")
		}
		if errors.Is(err, unix.ETIMEDOUT) {
			return fmt.Errorf("the peer has taken no data for the hold time of %s: %w", c.settings.hold(), err)
		}
		if err != nil {
			return c.late(err)
		}
		m, err = f.pass(m)
		c.heard(f)
		if err != nil {
			return err
		}
		if _, err := c.gobgp.Write(m); err != nil {
			return fmt.Errorf("write to gobgp: %w", err)
		}
	}
}

// late says what was waited for, if that is how the reading ended.
func (c *connection) late(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaited == "" || c.halted || !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read from the peer: %w", err)
	}
	return object(wire.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil,
		fmt.Sprintf("it took the connection but has sent no %s for %s", c.awaited, patience))
}

// heard takes over what the filter has learnt.
func (c *connection) heard(f filter) {
	c.mu.Lock()
	before := c.phase
	c.theirs, c.ignored, c.phase = f.open, f.ignored, f.phase
	c.mu.Unlock()
	if before == waitsForOpen && f.phase != before {
		close(c.introduced)
	}
	if f.phase != before {
		c.await(map[phase]string{waitsForKeepalive: "KEEPALIVE"}[f.phase])
	}
	c.advance()
}

// advance notices a step towards Established: both sides have sent their KEEPALIVE.
func (c *connection) advance() {
	c.mu.Lock()
	before := c.state
	switch {
	case c.phase == running && c.ready:
		c.state = Established
	case c.phase != waitsForOpen:
		c.state = OpenConfirm
	}
	after := c.state
	c.mu.Unlock()
	if before != after {
		c.changed(after)
	}
	if before != after && after == Established && c.settings.PathWait > 0 {
		go c.releaseInTime()
	}
}

// outward is the way from gobgp to the peer. Messages that wait together leave together.
func (c *connection) outward() error {
	reader := bufio.NewReaderSize(c.gobgp, 16*longest)
	batch := make([]byte, 0, 16*longest)
	for {
		m, err := readMessage(reader)
		if err != nil {
			return errors.New("gobgp closed the connection")
		}
		if m, err = c.said(m); err != nil {
			return err
		}
		if !c.keepBack(m) {
			batch = append(batch, m...)
		}
		if reader.Buffered() >= headerLength && len(batch) < 15*longest {
			continue
		}
		if len(batch) == 0 {
			continue
		}
		if err := c.write(batch); err != nil {
			return err
		}
		c.advance()
		if m.kind() == wire.BGP_MSG_NOTIFICATION {
			return fmt.Errorf("the session was ended by us: %s", describe(m))
		}
		batch = batch[:0]
	}
}

func (c *connection) write(batch []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.send(batch)
}

// send writes whole messages. The lock is held.
func (c *connection) send(batch []byte) error {
	hold := c.settings.hold()
	err := c.peer.SetWriteDeadline(time.Now().Add(hold))
	if err == nil {
		_, err = c.peer.Write(batch)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("the peer has taken no data for the hold time of %s", hold)
	}
	if err != nil {
		return fmt.Errorf("write to the peer: %w", err)
	}
	return nil
}

// said looks at what gobgp says and completes its OPEN.
func (c *connection) said(m message) (message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.kind() {
	case wire.BGP_MSG_UPDATE:
		c.updates++
	case wire.BGP_MSG_KEEPALIVE:
		c.ready = true
	case wire.BGP_MSG_OPEN:
		whole, err := preserving(m, c.restarted)
		if err != nil {
			return nil, err
		}
		c.ours, err = readOpen(whole)
		return whole, err
	}
	return m, nil
}
