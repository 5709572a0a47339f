package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mdlayher/ndp"
)

// advertiseEvery is how often we send router advertisements while a session waits for
// its peer or runs: FRR forgets an unnumbered neighbor it no longer hears.
const advertiseEvery = 4 * time.Second

// discover returns the link-local address of the router on the interface: whoever sends
// router advertisements there. It asks for one, and sends its own, which make FRR try
// us in turn.
func discover(ctx context.Context, name string) (netip.Addr, error) {
	conn, own, err := listenNDP(name)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, advertiseEvery)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	if err := errors.Join(advertise(conn), solicit(conn)); err != nil {
		return netip.Addr{}, fmt.Errorf("advertise on %s: %w", name, err)
	}
	for ctx.Err() == nil {
		m, _, from, err := conn.ReadFrom()
		if err != nil {
			break
		}
		if _, ok := m.(*ndp.RouterAdvertisement); ok && from.WithZone("") != own.WithZone("") {
			return from.WithZone(name), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find the peer on %s: no router advertisement was heard", name)
}

func listenNDP(name string) (*ndp.Conn, netip.Addr, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("find interface %s: %w", name, err)
	}
	numbered := *iface // see the function of that name
	numbered.Name = strconv.Itoa(iface.Index)
	conn, own, err := ndp.Listen(&numbered, ndp.LinkLocal)
	if err != nil {
		return nil, own, fmt.Errorf("listen for neighbors on %s: %w", name, err)
	}
	if err := conn.JoinGroup(netip.IPv6LinkLocalAllNodes()); err != nil {
		_ = conn.Close()
		return nil, own, fmt.Errorf("join all-nodes on %s: %w", name, err)
	}
	return conn, own, nil
}

// advertise sends a router advertisement that makes nobody use us as a router.
func advertise(conn *ndp.Conn) error {
	ra := &ndp.RouterAdvertisement{CurrentHopLimit: 64}
	return conn.WriteTo(ra, nil, netip.IPv6LinkLocalAllNodes())
}

func solicit(conn *ndp.Conn) error {
	return conn.WriteTo(&ndp.RouterSolicitation{}, nil, netip.IPv6LinkLocalAllRouters())
}

// keepAdvertising sends advertisements until the context is done.
func keepAdvertising(ctx context.Context, name string) {
	ticker := time.NewTicker(advertiseEvery)
	defer ticker.Stop()
	for {
		if conn, _, err := listenNDP(name); err == nil {
			// An error here is one of the link, which the session will feel.
			_ = advertise(conn)
			_ = conn.Close()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
