package e2e

import (
	"context"
	"testing"
	"time"
)

// TestPlainInstall: who installs without apiServer.host has programs that reach the API server by the address of its
// Service. The speakers forward that Service themselves, so they must not leave it out.
func TestPlainInstall(t *testing.T) {
	upgrade := func(ctx context.Context, host string) (string, error) {
		return tryLab(ctx, "helm", "upgrade", "fairlead", "charts/fairlead", "-n", "fairlead-system", "--reuse-values",
			"--wait", "--timeout", "3m", "--set", "apiServer.host="+host)
	}
	t.Cleanup(func() {
		if out, err := upgrade(context.Background(), "172.30.0.10"); err != nil {
			t.Errorf("set apiServer.host again: %v\n%s", err, out)
		}
	})
	if out, err := upgrade(t.Context(), ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, node := range []string{"node1", "node2", "node3"} {
		eventually(t, 30*time.Second, node+" forwards", func(ctx context.Context) error { return forwarding(ctx, node, "On") })
		lab(t, "exec", node, "--", "nft", "get", "element", "ip", "fairlead", "frontends", "{ 10.96.0.1 . tcp . 443 }")
		if out := lab(t, "exec", node, "--", "curl", "-sSk", "--max-time", "5", "https://10.96.0.1/livez"); out != "ok" {
			t.Errorf("the API server says %q to %s", out, node)
		}
	}
}
