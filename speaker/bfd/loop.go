package bfd

import (
	"os"
	"strings"
)

// loops tells whether this node sends echo packets of the peer back, which come to it to be forwarded.
func (s Session) loops() bool {
	name := "/proc/sys/net/ipv4/ip_forward"
	if s.Peer.Is6() {
		name = "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	text, err := os.ReadFile(name)
	return !s.Multihop && err == nil && strings.TrimSpace(string(text)) != "0"
}
