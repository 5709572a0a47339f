package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// clientMAC is the hardware address of the host client, which the lab derives from its IPv4 address.
const clientMAC = "02:00:ac:1e:00:14"

// told waits (the controller starts anew after an outage of the API server, which takes it a while) until the condition Announced of a Service has a status and a reason, and says some words.
func told(t *testing.T, name string, status metav1.ConditionStatus, reason string, words ...string) {
	t.Helper()
	began := time.Now()
	eventually(t, 2*time.Minute, fmt.Sprintf("Service %s is told %s %s", name, status, reason), func(ctx context.Context) error {
		svc, err := service(ctx, name)
		if err != nil {
			return err
		}
		have := meta.FindStatusCondition(svc.Status.Conditions, v1beta1.ConditionAnnounced)
		if have == nil || have.Status != status || have.Reason != reason {
			return fmt.Errorf("its condition is %+v", have)
		}
		for _, word := range words {
			if !strings.Contains(have.Message, word) {
				return fmt.Errorf("its message does not say %q: %s", word, have.Message)
			}
		}
		return nil
	})
	t.Logf("%s after %.1f s, load %s", reason, time.Since(began).Seconds(), busy())
}

// A host of the network that has an address already keeps it: nobody announces it, and the condition and an Event say
// whose it is. Once that host is gone, one node answers. If the host comes again, the node defends the address.
func TestAddressConflict(t *testing.T) {
	settled(t)
	addrs := []netip.Addr{netip.MustParseAddr("172.30.0.249"), netip.MustParseAddr("fd30::249")}
	client := func(args ...string) (string, error) {
		return tryLab(context.WithoutCancel(t.Context()), append([]string{"exec", "client", "--"}, args...)...)
	}
	foreign := func(verb string) {
		t.Helper()
		for _, addr := range addrs {
			prefix := netip.PrefixFrom(addr, addr.BitLen()).String()
			if out, err := client("ip", "address", verb, prefix, "dev", "eth0"); err != nil && verb == "add" {
				t.Fatalf("client: %s %s: %v %s", verb, prefix, err, out)
			}
		}
	}
	detect := func(on string) {
		if out, err := client("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad="+on); err != nil {
			t.Errorf("client: %v %s", err, out)
		}
	}
	t.Cleanup(func() { foreign("del"); detect("0") })
	foreign("add")
	svc := newService("taken", map[string]string{"fairlead.dev/loadBalancerIPs": addrs[0].String() + "," + addrs[1].String()})
	dual := corev1.IPFamilyPolicyRequireDualStack
	svc.Spec.IPFamilyPolicy = &dual
	create(t, svc)
	told(t, "taken", metav1.ConditionFalse, v1beta1.ReasonAddressConflict, clientMAC, addrs[0].String(), addrs[1].String())
	if note := event(t, svc, v1beta1.ReasonAddressConflict); !strings.Contains(note, clientMAC) {
		t.Errorf("the Event does not name %s: %s", clientMAC, note)
	}
	for _, addr := range addrs {
		if owner, _ := oneOwner(t, "router", addr); owner != "client" {
			t.Errorf("%s answers for %s, which client has", owner, addr)
		}
	}
	foreign("del")
	told(t, "taken", metav1.ConditionTrue, v1beta1.ReasonAnnounced, addrs[0].String(), addrs[1].String())
	for _, addr := range addrs {
		if owner, _ := oneOwner(t, "router", addr); !strings.HasPrefix(owner, "node") {
			t.Errorf("%s answers for %s", owner, addr)
		}
	}
	serve(t, addrs)
	detect("1")
	foreign("add")
	defended(t, addrs)
}

// defended expects that the client, which has just taken addresses that are announced, is told that they are another's:
// its own check finds that out for IPv6, and for IPv4, which its kernel does not check, the node announces on.
func defended(t *testing.T, addrs []netip.Addr) {
	t.Helper()
	eventually(t, 10*time.Second, "the client's check for duplicates fails", func(context.Context) error {
		if out := lab(t, "exec", "client", "--", "ip", "-6", "address", "show", "dev", "eth0"); !strings.Contains(out, "dadfailed") {
			return fmt.Errorf("it has %s", out)
		}
		return nil
	})
	lab(t, "exec", "client", "--", "busybox", "arping", "-U", "-c", "1", "-I", "eth0", addrs[0].String())
	told(t, "taken", metav1.ConditionTrue, v1beta1.ReasonAnnounced, clientMAC)
	for _, addr := range addrs {
		eventually(t, 10*time.Second, "the router leads to the node that had "+addr.String(), func(ctx context.Context) error {
			_, err := fetch(ctx, "remote", url(addr, "/hostname"))
			return err
		})
	}
}
