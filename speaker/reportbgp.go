package main

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// reportPeers lists this node's sessions, by name.
func reportPeers(reached bgp.Report, watched []bfd.Report, plan RoutePlan) []v1beta1.PeerSession {
	var found []v1beta1.PeerSession
	for _, r := range reached.Peers {
		session := v1beta1.PeerSession{
			Name: r.Key, Address: addrText(r.Address), ASN: r.ASN, RouterID: addrText(r.RouterID), LocalAddress: addrText(r.Local),
			State: string(r.State), Since: timeOf(r.Since), Reason: r.Reason, LastError: r.LastError, LastErrorAt: timeOf(r.LastErrorAt),
			Prefixes: int32(r.Prefixes), HoldTime: durationOf(r.HoldTime), KeepaliveTime: durationOf(r.Keepalive),
			GracefulRestart: r.GracefulRestart,
		}
		for _, family := range r.Families {
			session.Families = append(session.Families, string(family))
		}
		slices.Sort(session.Families)
		if _, watches := plan.Watch[r.Key]; watches {
			session.BFD, session.BFDReason = reportPath(r, watched)
		}
		found = append(found, session)
	}
	slices.SortFunc(found, func(a, b v1beta1.PeerSession) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// reportPath says how the path to a peer is, as far as it is watched already.
func reportPath(peer bgp.PeerReport, watched []bfd.Report) (state, reason string) {
	for _, w := range watched {
		if w.Session.Peer == peer.Address && (!w.Session.Local.IsValid() || !peer.Local.IsValid() || w.Session.Local == peer.Local) {
			return w.State.String(), w.Reason()
		}
	}
	return "", "the path is watched once the BGP session has been up for a second"
}

func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}

func durationOf(d time.Duration) *metav1.Duration {
	if d == 0 {
		return nil
	}
	return &metav1.Duration{Duration: d}
}

// establishedPeers counts the sessions that are established.
func establishedPeers(sessions []v1beta1.PeerSession) int32 {
	var count int32
	for _, session := range sessions {
		if session.State == string(bgp.Established) {
			count++
		}
	}
	return count
}

// reportRoutes lists the addresses that peers with an established session know from this node, by the peers that know
// them.
func reportRoutes(plan RoutePlan, reached bgp.Report) []v1beta1.PeerRoutes {
	byPeers := map[string][]netip.Addr{}
	told := map[netip.Addr][]string{}
	for _, r := range reached.Peers { // sorted by key, so the names are too
		if r.State != bgp.Established || r.Waiting {
			continue
		}
		for _, addr := range plan.Told[r.Key] {
			if carries(r.Families, addr) {
				told[addr] = append(told[addr], r.Key)
			}
		}
	}
	for addr, peers := range told {
		key := strings.Join(peers, ",")
		byPeers[key] = append(byPeers[key], addr)
	}
	var found []v1beta1.PeerRoutes
	for peers, addrs := range byPeers {
		slices.SortFunc(addrs, netip.Addr.Compare)
		found = append(found, v1beta1.PeerRoutes{Peers: peers, Addresses: spansOf(addrs)})
	}
	slices.SortFunc(found, func(a, b v1beta1.PeerRoutes) int { return strings.Compare(a.Peers, b.Peers) })
	return found
}

// carries tells whether a session that agreed on families has routes of an address.
func carries(families []bgp.Family, addr netip.Addr) bool {
	family := bgp.IPv4
	if addr.Is6() {
		family = bgp.IPv6
	}
	return slices.Contains(families, family)
}

// spansOf writes sorted addresses shortly: those that follow each other as first-last.
func spansOf(addrs []netip.Addr) []string {
	var found []string
	for len(addrs) > 0 {
		n := 1
		for n < len(addrs) && addrs[n-1].Next() == addrs[n] {
			n++
		}
		text := addrs[0].String()
		if n > 1 {
			text += "-" + addrs[n-1].String()
		}
		found = append(found, text)
		addrs = addrs[n:]
	}
	return found
}

// deafProblems lists the peers that cannot connect to this node although they may.
func deafProblems(sessions bgp.Report) []problem {
	var found []problem
	for _, session := range sessions.Peers {
		if session.Deaf != "" {
			found = append(found, problem{"bgppeer/" + session.Key, v1beta1.ReasonCannotListen, session.Deaf})
		}
	}
	return found
}

// routeProblems lists what is not announced by any node, and what else is not as users wrote it, sorted.
func routeProblems(plan RoutePlan) []problem {
	found := slices.Clone(plan.Problems)
	for _, r := range plan.Refusals {
		if r.Elsewhere {
			continue
		}
		for _, key := range r.Services {
			found = append(found, problem{"service/" + key, r.Reason, r.Message})
		}
	}
	slices.SortFunc(found, compareProblems)
	return slices.Compact(found)
}
