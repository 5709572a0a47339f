package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/speaker/bgp"
)

// bgpPort is where BGP daemons listen.
const bgpPort = 179

// connection is a TCP connection of this node, as the kernel lists it.
type connection struct{ local, remote netip.AddrPort }

// findRival says whether another program of this node, such as Calico, Cilium or a router's
// daemon, has a BGP session with the peer; "" if none has. A router takes only one session
// from an address.
func findRival(session bgp.PeerReport) string {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(path)
		if err != nil {
			continue // a kernel without IPv6
		}
		all := readConnections(file)
		_ = file.Close() // it was only read
		if why := rival(session, all); why != "" {
			return why
		}
	}
	return ""
}

// rival looks for a connection with the peer that is not the session's own. A session that is
// being made is left alone: it would take itself for its rival.
func rival(session bgp.PeerReport, all []connection) string {
	if session.State != bgp.Connect || session.Local.IsValid() {
		return ""
	}
	for _, c := range all {
		if c.remote.Addr() != session.Address.WithZone("") || c.remote.Port() != bgpPort && c.local.Port() != bgpPort {
			continue
		}
		return fmt.Sprintf("another BGP daemon on this node has a session with %s already (%s to %s): a router takes one from each address; give this peer a sourceAddress of its own, or leave the peer to the other daemon",
			session.Address, c.local, c.remote)
	}
	return ""
}

// readConnections reads the established connections of /proc/net/tcp or tcp6. Lines it does
// not understand are left out.
func readConnections(text io.Reader) []connection {
	const established = "01"
	var found []connection
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != established {
			continue
		}
		local, ok := parseSocket(fields[1])
		remote, also := parseSocket(fields[2])
		if ok && also {
			found = append(found, connection{local, remote})
		}
	}
	return found
}

// parseSocket reads "0100007F:00B3": the address as words in the machine's byte order.
func parseSocket(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	bytes, err := hex.DecodeString(host)
	if !ok || err != nil || len(bytes)%4 != 0 {
		return netip.AddrPort{}, false
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(bytes); i += 4 { // every machine Kubernetes runs on but s390x is little-endian
		word := bytes[i : i+4]
		word[0], word[1], word[2], word[3] = word[3], word[2], word[1], word[0]
	}
	addr, ok := netip.AddrFromSlice(bytes)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), ok
}
