package nft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Kernel is what the rules depend on outside the tables.
type Kernel struct {
	// ForwardsIPv4 and ForwardsIPv6 tell whether the node routes at all. That is
	// the network plugin's to switch on; without it no pod is reached.
	ForwardsIPv4, ForwardsIPv6 bool
	// Liberal tells that conntrack finds no TCP packet invalid for its sequence
	// number. Then there is nothing that Static.DropInvalid would have to drop.
	Liberal bool
	// Problems are settings that could not be made, for people.
	Problems []string
}

// Conntrack settings that Kubernetes' service proxies make.
const (
	establishedSeconds = 86400
	closeWaitSeconds   = 3600
	trackedPerCore     = 32768
	trackedAtLeast     = 131072
	trackedAtMost      = 1048576
)

// PrepareKernel makes the conntrack settings that a service proxy needs and
// reports the others. The base is /proc/sys/net or where that is mounted. Call it after the
// first Apply: conntrack's settings appear with the first rule that uses it.
// route_localnet is never touched (CVE-2020-8558), and whether conntrack is liberal only if it is to be.
func PrepareKernel(base string, cores int, beLiberal bool) Kernel {
	k := kernelSettings{base: base}
	if beLiberal {
		k.set("netfilter/nf_conntrack_tcp_be_liberal", 1)
	}
	k.set("netfilter/nf_conntrack_tcp_timeout_established", establishedSeconds)
	k.set("netfilter/nf_conntrack_tcp_timeout_close_wait", closeWaitSeconds)
	most := min(max(trackedPerCore*cores, trackedAtLeast), trackedAtMost)
	if have, err := k.get("netfilter/nf_conntrack_max"); err == nil && have < most {
		k.set("netfilter/nf_conntrack_max", most)
	}
	v4, err4 := k.get("ipv4/ip_forward")
	v6, err6 := k.get("ipv6/conf/all/forwarding")
	liberal, errLiberal := k.get("netfilter/nf_conntrack_tcp_be_liberal")
	for _, err := range []error{err4, err6, errLiberal} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.problems = append(k.problems, err.Error())
		}
	}
	return Kernel{ForwardsIPv4: v4 != 0, ForwardsIPv6: v6 != 0, Liberal: liberal != 0, Problems: k.problems}
}

type kernelSettings struct {
	base     string
	problems []string
}

func (k *kernelSettings) get(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(k.base, name))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n, nil
}

// set writes a number unless it is there already.
func (k *kernelSettings) set(name string, value int) {
	if have, err := k.get(name); err == nil && have == value {
		return
	}
	const readWrite = 0o644
	if err := os.WriteFile(filepath.Join(k.base, name), []byte(strconv.Itoa(value)), readWrite); err != nil {
		k.problems = append(k.problems, fmt.Sprintf("set %s to %d: %v", name, value, err))
	}
}
