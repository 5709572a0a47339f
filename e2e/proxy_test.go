package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// TestKubeProxyComesAndGoes starts a kube-proxy on a node that Fairlead forwards on, though Fairlead has the port on which
// kube-proxy could be asked, and ends it again.
func TestKubeProxyComesAndGoes(t *testing.T) {
	const node = "node3"
	eventually(t, 30*time.Second, "Fairlead answers for kube-proxy", func(ctx context.Context) error { return answersForProxy(ctx, node, true) })
	t.Cleanup(func() { // nobody needs what kube-proxy leaves
		for _, family := range []string{"ip", "ip6"} {
			_, _ = tryLab(context.Background(), "exec", node, "--", "nft", "delete", "table", family, "kube-proxy")
		}
	})
	stop := startKubeProxy(t, node)
	eventually(t, time.Minute, "the speaker keeps off", func(ctx context.Context) error { return forwarding(ctx, node, "OtherProxy") })
	if err := answersForProxy(t.Context(), node, false); err != nil {
		t.Error(err)
	}
	stop()
	eventually(t, time.Minute, "the speaker takes over", func(ctx context.Context) error { return forwarding(ctx, node, "On") })
	for _, family := range []string{"ip", "ip6"} {
		lab(t, "exec", node, "--", "nft", "delete", "table", family, "kube-proxy")
	}
	eventually(t, 30*time.Second, "Fairlead answers again", func(ctx context.Context) error { return answersForProxy(ctx, node, true) })
}

// answersForProxy returns nil if /proxyMode is nftables, said by Fairlead or by kube-proxy.
func answersForProxy(ctx context.Context, node string, ours bool) error {
	out, err := tryLab(ctx, "exec", node, "--", "curl", "-sSi", "--max-time", "3", "http://127.0.0.1:10249/proxyMode")
	if err != nil {
		return err
	}
	if !strings.HasSuffix(out, "nftables") || strings.Contains(out, "Server: fairlead\r\n") != ours {
		return fmt.Errorf("/proxyMode (ours: %v) answers\n%s", ours, out)
	}
	return nil
}

// forwarding returns nil if the node's speaker forwards or not for that reason.
func forwarding(ctx context.Context, node, reason string) error {
	var speaker v1beta1.Speaker
	if err := cluster.Get(ctx, client.ObjectKey{Name: node}, &speaker); err != nil {
		return err
	}
	if speaker.Status.Forwarding == nil {
		return errors.New("the speaker says nothing of forwarding")
	}
	if got := speaker.Status.Forwarding.Reason; got != reason {
		return fmt.Errorf("forwarding on %s: %s, want %s", node, got, reason)
	}
	return nil
}

// startKubeProxy runs a kube-proxy on the node, until stop is called.
func startKubeProxy(t *testing.T, node string) (stop func()) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, ".lab", "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	var settings struct{ Bin string }
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, labBinary, "exec", node, "--", filepath.Join(settings.Bin, "kube-proxy"),
		"--kubeconfig=/run/lab/pki/kube-proxy.conf", "--proxy-mode=nftables", "--hostname-override="+node,
		"--cluster-cidr=10.244.0.0/16,fd44::/16", "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	cmd.Dir, cmd.Stdout, cmd.Stderr = checkout, t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // killed
	}
	t.Cleanup(stop)
	return stop
}
