package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/speaker/bfd"
	"github.com/fairlead/fairlead/speaker/bgp"
)

// peerCollector turns what the peering loop reached into metrics, when it is asked.
type peerCollector struct {
	have func() *peerState

	up, prefixes, updates, resets, ignored *prometheus.Desc
	bfdUp, bfdSent, bfdReceived, bfdDowns  *prometheus.Desc
}

func newPeerCollector(have func() *peerState) *peerCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("fairlead_"+name, help, []string{"peer"}, nil)
	}
	return &peerCollector{
		have:        have,
		up:          desc("bgp_session_up", "1 if the session with the peer is established, else 0."),
		prefixes:    desc("bgp_announced_prefixes", "Prefixes the peer knows from this node."),
		updates:     desc("bgp_updates_sent_total", "UPDATE messages sent to the peer."),
		resets:      desc("bgp_session_resets_total", "How often an established session ended."),
		ignored:     desc("bgp_updates_ignored_total", "UPDATE messages of the peer: nothing is learnt from them."),
		bfdUp:       desc("bfd_session_up", "1 if BFD finds the path to the peer working, else 0; only for peers with a BFDProfile."),
		bfdSent:     desc("bfd_packets_sent_total", "BFD packets sent since the BFD session began."),
		bfdReceived: desc("bfd_packets_received_total", "BFD packets received since the BFD session began."),
		bfdDowns:    desc("bfd_downs_total", "How often the BFD session left Up since it began."),
	}
}

// Describe names the metrics.
func (c *peerCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.up, c.prefixes, c.updates, c.resets, c.ignored, c.bfdUp, c.bfdSent, c.bfdReceived, c.bfdDowns,
	} {
		to <- d
	}
}

// Collect reads the loop's state.
func (c *peerCollector) Collect(to chan<- prometheus.Metric) {
	state := c.have()
	if state == nil {
		return
	}
	for _, session := range state.Sessions.Peers {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64) {
			to <- prometheus.MustNewConstMetric(d, kind, value, session.Key)
		}
		up := session.State == bgp.Established
		resets := session.Established
		if up {
			resets--
		}
		send(c.up, prometheus.GaugeValue, truth(up))
		send(c.prefixes, prometheus.GaugeValue, float64(session.Prefixes))
		send(c.updates, prometheus.CounterValue, float64(session.Updates))
		send(c.resets, prometheus.CounterValue, float64(resets))
		send(c.ignored, prometheus.CounterValue, float64(session.Ignored))
		if _, watched := state.Plan.Watch[session.Key]; !watched {
			continue
		}
		path := pathOf(state.Paths, session)
		send(c.bfdUp, prometheus.GaugeValue, truth(path.State == bfd.Up))
		send(c.bfdSent, prometheus.CounterValue, float64(path.Sent))
		send(c.bfdReceived, prometheus.CounterValue, float64(path.Received))
		send(c.bfdDowns, prometheus.CounterValue, float64(path.Downs))
	}
}

// pathOf returns the BFD session over a BGP session's path; the zero Report, which is not Up, if there is none.
func pathOf(paths []bfd.Report, session bgp.PeerReport) bfd.Report {
	for _, path := range paths {
		if path.Session.Peer == session.Address && path.Session.Local == session.Local {
			return path
		}
	}
	return bfd.Report{}
}
