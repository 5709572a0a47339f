package links

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch rings bell (non-blocking; make it of size one) after every change of a link or
// an address, and once at the start, until ctx ends; then it returns nil. It subscribes
// in the calling goroutine. Notices that the kernel lost for lack of room ring too.
func Watch(ctx context.Context, log *slog.Logger, bell chan<- struct{}) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR,
	})
	if err != nil {
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	for {
		ring(bell)
		_, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			log.Debug("link notices were lost, reading all links again")
		case err != nil:
			return fmt.Errorf("receive link changes: %w", err)
		}
	}
}

func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
