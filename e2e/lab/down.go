package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// down removes the lab. Without one it does nothing. With force it also removes what another checkout left,
// provided that nothing of it runs.
func (l lab) down(ctx context.Context, force bool, p *progress) error {
	other, err := owner()
	if err != nil {
		return err
	}
	victim := l
	if other != "" && other != l.dir && anyNamespace() {
		victim = lab{checkout: filepath.Dir(other), dir: other}
		if !force {
			return fmt.Errorf("the lab on this machine belongs to another checkout (%s): "+
				"end it there, or here with --force if nothing of it runs", other)
		}
		if pids, err := victim.pids(); err != nil || len(pids) > 0 {
			return errors.Join(err, fmt.Errorf("the lab of %s is running (%d processes): end it there", other, len(pids)))
		}
	}
	if !exists(victim.dir) && !anyNamespace() {
		p.printf("There is no lab.\n")
		return nil
	}
	if !exists(victim.dir) && !force {
		return errors.New("network namespaces named " + prefix() + "* exist that are not known to be a lab's: " +
			"--force removes them and ends what runs in them")
	}
	return p.step("remove the lab", func() error { return victim.remove(ctx) })
}

// remove ends all processes and removes everything the lab made. It can be repeated.
func (l lab) remove(ctx context.Context) error {
	if err := kill(ctx, l.pids); err != nil {
		return err
	}
	if err := l.removeNamespaces(); err != nil {
		return err
	}
	if err := removeCgroups(); err != nil {
		return err
	}
	if err := l.detachMounts(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove %s: %w", l.dir, err)
	}
	return thisMachine.leave(ownerFile())
}

func (l lab) removeNamespaces() error {
	for _, h := range everyHost() {
		if err := l.removeHost(h); err != nil {
			return err
		}
	}
	for _, name := range netnsNames() {
		if err := unpin(netnsPath(name)); err != nil {
			return err
		}
	}
	return nil
}

// removeHost takes the names of the host's namespaces away: they end with their last process.
func (l lab) removeHost(h host) error {
	for _, path := range []string{l.mntPath(h), l.utsPath(h), netnsPath(h.netnsName())} {
		if err := unpin(path); err != nil {
			return err
		}
	}
	return nil
}

// pids lists every process that is the lab's: those it noted, those in its pods and those inside its namespaces.
func (l lab) pids() ([]int, error) {
	ours := map[int]bool{}
	ps, err := l.processes()
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		if p.alive() {
			ours[p.PID] = true
		}
	}
	inPods, err := cgroupPIDs()
	if err != nil {
		return nil, err
	}
	inside, err := l.insiders(everyHost())
	if err != nil {
		return nil, err
	}
	for _, pid := range append(inPods, inside...) {
		if _, err := startTime(pid); err == nil {
			ours[pid] = true
		}
	}
	list := make([]int, 0, len(ours))
	for pid := range ours {
		list = append(list, pid)
	}
	slices.Sort(list)
	return list, nil
}

// A nsID tells namespaces apart.
type nsID struct{ dev, ino uint64 }

func idOf(path string) (nsID, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, false
	}
	return nsID{st.Dev, st.Ino}, true
}

// insiders lists the processes in a network or mount namespace of these hosts, whoever started them there:
// containerd's shims among others, which outlive it.
func (l lab) insiders(hosts []host) ([]int, error) {
	ours := map[nsID]bool{}
	for _, h := range hosts {
		// A name that is no mount any more, after a restart of the machine, is a plain file: it matches no namespace,
		// because no process can be in one.
		for _, path := range []string{netnsPath(h.netnsName()), l.mntPath(h)} {
			if id, ok := idOf(path); ok {
				ours[id] = true
			}
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue // this command itself may have left a thread there
		}
		for _, kind := range []string{"net", "mnt"} {
			if id, ok := idOf(filepath.Join("/proc", e.Name(), "ns", kind)); ok && ours[id] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}

// detachMounts takes away every mount below .lab in the machine's own mount namespace, newest first, so that removing
// the folder cannot reach into one.
func (l lab) detachMounts() error {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	points := mountsBelow(string(text), l.dir)
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// mountsBelow lists the mount points below dir in the order of mountinfo.
func mountsBelow(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}
