package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// withoutNode waits until both routers have paths over the other two nodes only.
func withoutNode(t *testing.T, node string, limit time.Duration) {
	t.Helper()
	for _, r := range []router{frr, bird} {
		eventually(t, limit, r.host+" has no route over "+node, func(ctx context.Context) error {
			got, err := r.paths(ctx, netip.PrefixFrom(routed4, 32))
			if err == nil && (len(got) != 2 || got[0].Via == node || got[1].Via == node) {
				err = fmt.Errorf("it has %v", got)
			}
			return err
		})
	}
}

// Without the API server routes stay, a node that dies loses its own and gets them back, and a speaker that crashes
// tells them again from the last known state.
func TestRoutesWithoutTheAPIServer(t *testing.T) {
	routedEverywhere(t, func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "routers" })
	signalOn(t, "control", "kube-apiserver", "STOP")
	stopped, running := time.Now(), false
	start := func() {
		if !running {
			signalOn(t, "control", "kube-apiserver", "CONT")
		}
		running = true
	}
	t.Cleanup(func() { start(); mend(t) })
	requests := fetching(t, routed4)
	everywhere(t)
	lab(t, "link", "node3", "silent")
	withoutNode(t, "node3", 15*time.Second)
	mend(t)
	everywhere(t)
	signalOn(t, "node1", "speaker", "KILL")
	eventually(t, 60*time.Second, "the speaker of node1 is back", func(ctx context.Context) error {
		out, err := tryLab(ctx, "exec", "node1", "--", "curl", "-sS", "http://127.0.0.1:7480/metrics")
		if err == nil && !(strings.Contains(out, `fairlead_bgp_session_up{peer="frr"} 1`) && strings.Contains(out, `fairlead_bgp_session_up{peer="bird"} 1`)) {
			err = fmt.Errorf("not all of its sessions are up")
		}
		return err
	})
	everywhere(t)
	made, _ := requests() // those that node3 took with it are lost
	if made < 10 {
		t.Errorf("%d requests in all", made)
	}
	if _, err := fetch(t.Context(), "remote", url(routed4, "/hostname")); err != nil {
		t.Error(err)
	}
	t.Logf("the API server was away for %.0f s", time.Since(stopped).Seconds())
	start()
	eventually(t, time.Minute, "the API server is back", func(ctx context.Context) error {
		_, err := service(ctx, "web")
		return err
	})
	settled(t)
}

// ownDaemon is a BGP daemon of a node's own: it has port 179 and a session with BIRD.
const ownDaemon = `
router id 172.30.0.11;
protocol device {}
protocol bgp own {
  local 172.30.0.11 as 64512;
  neighbor 172.30.0.2 as 64514;
  ipv4 { import none; export none; };
}
`

// A node's own BGP daemon that has the port, and a session with a router, keeps both: what it keeps from us is named, and
// nothing else suffers.
func TestAnotherDaemonOnANode(t *testing.T) {
	dir := t.TempDir()
	conf, socket := filepath.Join(dir, "own.conf"), filepath.Join(dir, "own.ctl")
	if err := os.WriteFile(conf, []byte(ownDaemon), 0o644); err != nil {
		t.Fatal(err)
	}
	background(t, "node1", "bird", "-f", "-c", conf, "-s", socket, "-P", filepath.Join(dir, "own.pid"))
	eventually(t, 30*time.Second, "the node's own daemon has its session", func(ctx context.Context) error {
		out, err := tryLab(ctx, "exec", "node1", "--", "birdc", "-s", socket, "show", "protocols", "own")
		if err == nil && !strings.Contains(out, "Established") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	routed(t)
	first, second := newPeer("bird", bird), newPeer("frr", frr)
	second.Spec.ListenPort = 179
	create(t, newAdvertisement("routed"), first, second)
	untilSession(t, "node1", "bird", "refused, and it is said why", func(s v1beta1.PeerSession) bool {
		return !isUp(s) && strings.Contains(s.Reason, "another BGP daemon on this node has a session with 172.30.0.2 already")
	})
	untilSession(t, "node2", "bird", "up", isUp)
	untilSession(t, "node1", "frr", "up", isUp)
	eventually(t, 10*time.Second, "the Speaker of node1 says that the port is taken", func(ctx context.Context) error {
		var speaker v1beta1.Speaker
		if err := cluster.Get(ctx, client.ObjectKey{Name: "node1"}, &speaker); err != nil {
			return err
		}
		for _, p := range speaker.Status.Problems {
			if p.Object == "bgppeer/frr" && p.Reason == v1beta1.ReasonCannotListen {
				return nil
			}
		}
		return fmt.Errorf("its problems are %+v", speaker.Status.Problems)
	})
	if out := lab(t, "exec", "node1", "--", "birdc", "-s", socket, "show", "protocols", "own"); !strings.Contains(out, "Established") {
		t.Errorf("the node's own daemon lost its session:\n%s", out)
	}
}

// connecting are the changes by which routers connect to the nodes themselves.
var (
	frrConnects  = []string{" bgp listen range 172.30.0.0/24 peer-group fairlead", connectingNeighbors()}
	birdConnects = []string{"neighbor range 172.30.0.0/24 as 64512;", "neighbor 172.30.0.11 port 1790 as 64512;", `dynamic name "node";`, "connect delay time 1;"}
)

func connectingNeighbors() string {
	text := ""
	for i := range nodes {
		neighbor := fmt.Sprintf(" neighbor 172.30.0.1%d", i+1)
		text += neighbor + " peer-group fairlead\n" + neighbor + " port 1790\n" + neighbor + " timers connect 1\n"
	}
	return text
}

// moreSessionCases are about sessions that begin in other ways.
func moreSessionCases() []bgpCase {
	return []bgpCase{
		{
			name: "unnumbered, BIRD's way",
			bird: []string{
				"protocol device {}", "protocol device {}\nprotocol radv { interface \"eth0\" { max ra interval 4; default lifetime 0; }; }",
				"neighbor range 172.30.0.0/24 as 64512;", "interface \"eth0\";\n  neighbor range fe80::/10 external;",
				"ipv4 { import filter fairlead; export none; };", "ipv4 { import filter fairlead; export none; extended next hop on; };",
			},
			birdPeer: func(s *v1beta1.BGPPeerSpec) {
				s.PeerAddress, s.Interface, s.NodeSelectors = "", "eth0", onlyOn("node1")
			},
			birdNodes: []string{"node1"}, want: path{ASPath: ebgp},
		}, {
			name: "the routers connect to the nodes",
			frr:  frrConnects, bird: birdConnects,
			peer:      func(s *v1beta1.BGPPeerSpec) { s.PeerPort, s.ListenPort = 1791, 1790 },
			birdPeer:  func(s *v1beta1.BGPPeerSpec) { s.NodeSelectors = onlyOn("node1") },
			birdNodes: []string{"node1"}, want: path{ASPath: ebgp},
		},
	}
}
