package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// deaf makes a node's speaker neither hear nor reach the others, while all else goes on.
const deaf = `nft 'add table inet e2e-deaf
add chain inet e2e-deaf in { type filter hook input priority -300; }
add chain inet e2e-deaf out { type filter hook output priority -300; }
add rule inet e2e-deaf in meta l4proto { tcp, udp } th dport 7947 drop
add rule inet e2e-deaf out meta l4proto { tcp, udp } th dport 7947 drop'`

// Gossip with the owner's node breaks, but the node is well: it still answers on the wire, so nobody takes its
// addresses, and the others say Split.
func TestSplit(t *testing.T) {
	settled(t)
	addrs := webAddresses(t)
	owner, _ := oneOwner(t, "client", addrs[0])
	hear := func() {
		// Without a table there is nothing to delete: the test may have ended before it was made.
		_, _ = tryLab(context.WithoutCancel(t.Context()), "exec", owner, "--", "nft", "delete", "table", "inet", "e2e-deaf")
	}
	t.Cleanup(hear)
	lab(t, "exec", owner, "--", "sh", "-c", deaf)
	cut := time.Now()
	eventually(t, 30*time.Second, "a speaker says Split", func(ctx context.Context) error {
		for _, addr := range addrs {
			if found, err := owners(ctx, "client", addr); err != nil || len(found) != 1 || found[0] != owner {
				t.Fatalf("%v answer for %s, %v; want %s", found, addr, err, owner)
			}
		}
		return splitFrom(ctx, owner)
	})
	t.Logf("Split was told of %.1f s after gossip broke", time.Since(cut).Seconds())
	stays(t, addrs, owner, 5*time.Second)
	serve(t, addrs)
	hear()
	settled(t)
	stays(t, addrs, owner, 2*time.Second)
	eventually(t, 30*time.Second, "nobody says Split any more", func(ctx context.Context) error {
		if splitFrom(ctx, owner) == nil {
			return fmt.Errorf("a speaker still does")
		}
		return nil
	})
}

// splitFrom returns nil if a speaker says that it takes no address from a node that is only silent.
func splitFrom(ctx context.Context, owner string) error {
	var speakers v1beta1.SpeakerList
	if err := cluster.List(ctx, &speakers); err != nil {
		return err
	}
	for _, speaker := range speakers.Items {
		for _, problem := range speaker.Status.Problems {
			if problem.Reason == v1beta1.ReasonSplit && strings.Contains(problem.Message, owner) {
				return nil
			}
		}
	}
	return fmt.Errorf("none does")
}
