package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// speaker is one gobgp server with one peer: the other end of our wire, which connects
// to it over the loopback interface. The only thing it is told of the world are routes.
type speaker struct {
	server *server.BgpServer
	port   uint16
}

// loopback is where gobgp listens, and where it sees its peer.
const loopback = "127.0.0.1"

// newSpeaker returns a server that is not started.
func newSpeaker() *speaker {
	s := &speaker{server: server.NewBgpServer(server.LoggerOption(silent{}))}
	go s.server.Serve()
	return s
}

// start gives the server its identity. gobgp writes its route selection options to two
// package variables here, the same zero values each time; the race detector sees that when
// another server is at work. It listens on the loopback interface only, on a
// port that was free a moment ago; should somebody else have taken it, another one.
func (s *speaker) start(ctx context.Context, p Peer) error {
	var err error
	for range 8 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		err = s.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
			Asn: p.LocalASN, RouterId: p.RouterID.String(),
			ListenPort: int32(s.port), ListenAddresses: []string{loopback},
		}})
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("start gobgp: %w", err)
}

func freePort() (uint16, error) {
	l, err := net.Listen("tcp4", loopback+":0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// stop makes the server what newSpeaker returned, to be started again: gobgp leaks a
// goroutine and its tables with every server that is thrown away. It does so also if the
// context is done.
func (s *speaker) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := s.server.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL})
	return errors.Join(err, s.server.StopBgp(ctx, &api.StopBgpRequest{}))
}

// connect adds the peer and returns our end of the connection to gobgp, once gobgp has
// taken it: it closes one that comes before it is ready. gobgp sends its OPEN at once.
func (s *speaker) connect(ctx context.Context, p Peer) (net.Conn, error) {
	if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: p.gobgp()}); err != nil {
		return nil, fmt.Errorf("add the peer to gobgp: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	for {
		conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", loopback, s.port))
		if err != nil {
			return nil, fmt.Errorf("connect to gobgp: %w", err)
		}
		if open := (&peeked{Conn: conn}); open.ready() {
			return open, nil
		}
		conn.Close()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to gobgp: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// peeked is a connection whose first byte was read ahead.
type peeked struct {
	net.Conn
	first []byte
}

func (c *peeked) ready() bool {
	c.first = make([]byte, 1)
	if err := c.SetReadDeadline(time.Now().Add(dialTimeout)); err != nil {
		return false
	}
	_, err := c.Conn.Read(c.first)
	return errors.Join(err, c.SetReadDeadline(time.Time{})) == nil
}

// Read returns the byte that was read ahead, then the connection's.
func (c *peeked) Read(b []byte) (int, error) {
	if n := copy(b, c.first); n > 0 {
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// disconnect forgets the peer, so that the next connect need not wait the 5 s that gobgp
// stays idle after a session. The routes stay. It does so also if the context is done.
func (s *speaker) disconnect(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: loopback})
}

// gobgp returns the peer in gobgp's terms. What concerns the TCP connection is the
// wire's business and not among them.
func (p Peer) gobgp() *api.Peer {
	peer := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: loopback, LocalAsn: p.LocalASN},
		Transport: &api.Transport{PassiveMode: true},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: uint64(p.hold().Seconds()), KeepaliveInterval: uint64(p.Keepalive.Seconds()),
		}},
	}
	switch p.ASN {
	case Exact:
		peer.Conf.PeerAsn = p.PeerASN
	case Internal:
		peer.Conf.PeerAsn = p.LocalASN
	case External: // 0 is any; the filter has seen to it that it is not ours
	}
	if p.GracefulRestart > 0 {
		peer.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(p.GracefulRestart.Seconds()), DeferralTime: 1,
		}
	}
	for _, family := range p.families() {
		peer.AfiSafis = append(peer.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: family.gobgp(), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart > 0}},
		})
	}
	return peer
}

// families the session offers.
func (p Peer) families() []Family {
	switch {
	case len(p.Families) > 0:
		return p.Families
	case p.Address.Is4():
		return []Family{IPv4}
	case p.Address.IsValid():
		return []Family{IPv6}
	}
	return []Family{IPv4, IPv6}
}

func (f Family) gobgp() *api.Family {
	afi := api.Family_AFI_IP
	if f == IPv6 {
		afi = api.Family_AFI_IP6
	}
	return &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}
}

func familyOf(prefix netip.Prefix) Family {
	if prefix.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// silent is gobgp's logger: everything worth saying is seen on the wire. gobgp reports
// programming errors of its caller by Fatal and Panic; neither may end the process,
// which forwards packets.
type silent struct{}

func (silent) Panic(msg string, fields log.Fields) { panic(fmt.Sprint("gobgp: ", msg, fields)) }
func (silent) Fatal(string, log.Fields)            {}
func (silent) Error(string, log.Fields)            {}
func (silent) Warn(string, log.Fields)             {}
func (silent) Info(string, log.Fields)             {}
func (silent) Debug(string, log.Fields)            {}
func (silent) SetLevel(log.LogLevel)               {}
func (silent) GetLevel() log.LogLevel              { return log.ErrorLevel }

// zoneless is the address without its zone, which gobgp would not parse.
func zoneless(a netip.Addr) string { return strings.SplitN(a.String(), "%", 2)[0] }
