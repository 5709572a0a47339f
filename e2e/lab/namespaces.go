package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A host is three namespaces: network, UTS (a hostname of its own) and mount. The mount namespace gives
// every node its own /run, /var/lib/kubelet and /var/log/pods, so that unmodified components run with their
// usual paths side by side, and so that all their mounts disappear with the last process. /sys stays as it
// is, because the kubelet needs the machine's cgroup mounts.

const netnsDir = "/run/netns"

func (l lab) utsPath(h host) string { return l.path("ns", h.Name+".uts") }
func (l lab) mntPath(h host) string { return l.path("ns", h.Name+".mnt") }

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// netnsNames lists the names of all network namespaces that a lab may have.
func netnsNames() []string {
	var names []string
	for _, s := range subnets() {
		names = append(names, s.netnsName())
	}
	for _, h := range everyHost() {
		names = append(names, h.netnsName())
	}
	return names
}

func anyNamespace() bool {
	for _, name := range netnsNames() {
		if exists(netnsPath(name)) {
			return true
		}
	}
	return false
}

// onThread runs f on an operating system thread of its own and ends that thread afterwards, so that f may
// change the thread's namespaces.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: Go ends the thread with the goroutine
		done <- f()
	}()
	return <-done
}

// makeNetns creates a network namespace and names it.
func makeNetns(name string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		return pin("net", netnsPath(name))
	})
}

// pin keeps a namespace of this thread alive under a file name.
func pin(kind, path string) error {
	return pinThread(unix.Gettid(), kind, path)
}

func pinThread(tid int, kind, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("name namespace %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("name namespace %s: %w", path, err)
	}
	f.Close()
	source := "/proc/" + strconv.Itoa(os.Getpid()) + "/task/" + strconv.Itoa(tid) + "/ns/" + kind
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("name namespace %s: %w", path, err)
	}
	return nil
}

// unpin takes the name of a namespace away. Missing files are no error.
func unpin(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err == unix.EINVAL || err == unix.ENOENT {
			break
		}
		if err != nil {
			return fmt.Errorf("remove namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", path, err)
	}
	return nil
}

// prepareNamespaceDir makes .lab/ns a private mount: a mount namespace cannot be named on a shared one.
func (l lab) prepareNamespaceDir() error {
	dir := l.path("ns")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	return nil
}

// makeHost creates the three namespaces of a host.
func (l lab) makeHost(h host) error {
	if err := makeNetns(h.netnsName()); err != nil {
		return err
	}
	type made struct {
		tid int
		err error
	}
	ready, pinned := make(chan made), make(chan struct{})
	defer close(pinned)
	go func() {
		runtime.LockOSThread()
		ready <- made{unix.Gettid(), l.enterNew(h)}
		<-pinned // a mount namespace can only be named from outside, while this thread holds it
	}()
	m := <-ready
	if m.err != nil {
		return fmt.Errorf("make host %s: %w", h.Name, m.err)
	}
	if err := pinThread(m.tid, "uts", l.utsPath(h)); err != nil {
		return err
	}
	return pinThread(m.tid, "mnt", l.mntPath(h))
}

// enterNew moves this thread into a new UTS and mount namespace furnished for the host.
func (l lab) enterNew(h host) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWUTS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Sethostname([]byte(h.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return l.furnish(h)
}

// furnish mounts what the host has of its own. The mounts are shared inside the namespace, so that pods may
// ask for mount propagation, and nothing of them is seen outside.
func (l lab) furnish(h host) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach the mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	binds := map[string]string{hostState: l.hostDir(h)}
	for _, m := range mountPoints(h) {
		binds[m] = filepath.Join(l.hostDir(h), filepath.Base(filepath.Dir(m))+"-"+filepath.Base(m))
	}
	for target, source := range binds {
		for _, dir := range []string{source, target} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make %s: %w", dir, err)
			}
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	if h.Role == roleNode {
		if err := l.shieldSysctls(h); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return nil
}

// shieldSysctls puts plain files over those settings of the whole machine that a kubelet wants to change (what
// the machine does when it panics or runs out of memory): the kubelet is content, the machine stays as it is.
func (l lab) shieldSysctls(h host) error {
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		real := filepath.Join("/proc/sys", name)
		value, err := os.ReadFile(real)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("shield %s: %w", name, err)
		}
		shield := filepath.Join(l.hostDir(h), "sysctl", name)
		if err := writeFile(shield, value); err != nil {
			return err
		}
		if err := unix.Mount(shield, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("shield %s: %w", name, err)
		}
	}
	return nil
}

// mountPoints lists the folders with fixed names that the host's programs write to.
func mountPoints(h host) []string {
	switch h.Role {
	case roleNode:
		return []string{"/var/lib/kubelet", "/var/lib/fairlead", "/var/log/pods", "/var/log/containers"}
	case roleFRR:
		return []string{"/etc/frr"}
	case roleBIRD:
		return []string{"/etc/bird"}
	default:
		return nil
	}
}

// start starts a command inside the host. The command's folder must be absolute or empty.
func (l lab) start(h host, cmd *exec.Cmd) error {
	return onThread(func() error {
		if err := l.enter(h); err != nil {
			return err
		}
		return cmd.Start() // a child inherits the namespaces of the thread that starts it
	})
}

// enter moves this thread into the host.
func (l lab) enter(h host) error {
	// A thread that shares its root and working folder with others must not change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	for _, ns := range []struct {
		path string
		kind int
	}{{netnsPath(h.netnsName()), unix.CLONE_NEWNET}, {l.utsPath(h), unix.CLONE_NEWUTS}, {l.mntPath(h), unix.CLONE_NEWNS}} {
		fd, err := unix.Open(ns.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("enter %s (is the lab up?): %s: %w", h.Name, ns.path, err)
		}
		err = unix.Setns(fd, ns.kind)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter %s: %s: %w", h.Name, ns.path, err)
		}
	}
	return nil
}
