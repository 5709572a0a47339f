package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
)

// preferredAPIPort is where the API server is offered on the machine's loopback, unless somebody is there.
const preferredAPIPort = 36443

// listenForAPI opens the listener of the API server's forwarder.
func listenForAPI() (*net.TCPListener, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: preferredAPIPort})
	if err != nil {
		l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the API server on loopback: %w", err)
	}
	return l, nil
}

// forward accepts connections on an inherited listener and passes them on to target until it is killed.
func forward(fd, target string) error {
	n, err := strconv.Atoi(fd)
	if err != nil {
		return fmt.Errorf("forward from descriptor %q: %w", fd, err)
	}
	f := os.NewFile(uintptr(n), "listener")
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("forward from descriptor %d: %w", n, err)
	}
	f.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go pass(log, c, target)
	}
}

// pass copies both ways until both sides are done. One side's end is told to the other.
func pass(log *slog.Logger, c net.Conn, target string) {
	defer c.Close()
	t, err := net.Dial("tcp", target)
	if err != nil {
		log.Warn("cannot reach the API server", "address", target, "err", err)
		return
	}
	defer t.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyAndClose(t, c)
	}()
	copyAndClose(c, t)
	<-done
}

// copyAndClose copies until the source ends and then ends the destination's other half. Errors mean that a side is gone,
// which the other direction notices in the same way.
func copyAndClose(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if t, ok := dst.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}
