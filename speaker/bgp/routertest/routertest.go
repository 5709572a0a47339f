// Package routertest runs real routers, FRR and BIRD, for tests: each in a network
// namespace of its own, joined to the test's by a veth pair.
//
// A test package that uses it calls Main from TestMain: the tests then run in
// namespaces (network, mount, process) made for this run alone, which end with it and
// take every router along, also when a test is killed. The machine's own network is
// never touched and nothing has a name that could clash.
package routertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inside marks the process that runs in the namespaces.
const inside = "FAIRLEAD_ROUTERTEST_INSIDE"

// Main runs the tests in namespaces of their own if it is root, else as they are, and
// returns the exit code. Tests that need routers call NewRouter, which skips them if
// they are not root.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(inside) != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	runtime.LockOSThread() // Pdeathsig is sent when the thread that forked ends
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func prepare() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("set lo up: %w: %s", err, out)
	}
	return nil
}

// Router is a network namespace with, after StartFRR or StartBIRD, a router in it.
type Router struct {
	t    testing.TB
	name string
	pid  int
	dir  string
	logs []string
}

// NewRouter makes an empty namespace. It lasts until the test ends.
func NewRouter(t testing.TB, name string) *Router {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatalf("make namespace %s: %v", name, err)
	}
	dir, err := os.MkdirTemp("", "router-")
	if err != nil {
		t.Fatal(err)
	}
	r := &Router{t: t, name: name, pid: cmd.Process.Pid, dir: dir}
	t.Cleanup(func() {
		end(cmd)
		r.Show()
		os.RemoveAll(dir)
	})
	r.Run("ip", "link", "set", "lo", "up")
	return r
}

// end kills the program; that it ends by a signal is no error.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Show prints the router's logs if the test failed.
func (r *Router) Show() {
	if !r.t.Failed() {
		return
	}
	for _, path := range r.logs {
		text, _ := os.ReadFile(path)
		if len(text) > 4000 {
			text = text[len(text)-4000:]
		}
		r.t.Logf("%s %s:\n%s", r.name, filepath.Base(path), text)
	}
}

// Node runs a command in the test's own namespace and returns what it printed.
func Node(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, args)
}

// Run runs a command in the router's namespace and returns what it printed.
func (r *Router) Run(args ...string) string {
	r.t.Helper()
	return run(r.t, r.enter(args))
}

func (r *Router) enter(args []string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", r.pid)}, args...)
}

func run(t testing.TB, args []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Link joins the node and the router by a veth pair called iface on both sides.
// Addresses are "node-side peer-side" with prefix lengths.
func (r *Router) Link(iface string, addresses ...string) {
	r.t.Helper()
	pid := fmt.Sprint(r.pid)
	Node(r.t, "ip", "link", "add", iface, "type", "veth", "peer", "name", iface, "netns", pid)
	r.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", iface).Run() }) // gone if the router was first
	Node(r.t, "ip", "link", "set", iface, "up")
	r.Run("ip", "link", "set", iface, "up")
	for _, pair := range addresses {
		node, peer, _ := strings.Cut(pair, " ")
		Node(r.t, "ip", "addr", "add", node, "dev", iface, "nodad")
		r.Run("ip", "addr", "add", peer, "dev", iface, "nodad")
	}
}

// Start runs a program in the router's namespace until the test ends.
func (r *Router) Start(args ...string) *exec.Cmd {
	r.t.Helper()
	path := filepath.Join(r.dir, filepath.Base(args[0])+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	r.logs = append(r.logs, path)
	all := r.enter(args)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("start %s: %v", args[0], err)
	}
	r.t.Cleanup(func() {
		end(cmd)
		log.Close()
	})
	return cmd
}

// Log returns what a program that Start started has printed.
func (r *Router) Log(cmd *exec.Cmd) string {
	r.t.Helper()
	text, err := os.ReadFile(cmd.Stdout.(*os.File).Name())
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// Monitor starts "ip monitor route" in the router's namespace and returns a function
// that returns what the kernel has told since.
func (r *Router) Monitor() func() string {
	r.t.Helper()
	cmd := r.Start("ip", "-4", "monitor", "route")
	probe := 0 // it listens once it sees a route of ours
	r.Until(10*time.Second, func() string {
		probe++
		r.Run("ip", "route", "replace", "unreachable", fmt.Sprintf("203.0.113.%d", probe%256))
		if r.Log(cmd) == "" {
			return "ip monitor sees nothing"
		}
		return ""
	})
	r.Run("ip", "route", "replace", "unreachable", "203.0.113.255", "metric", "9")
	r.Until(10*time.Second, func() string {
		if !strings.Contains(r.Log(cmd), "metric 9") {
			return "ip monitor is late"
		}
		return ""
	})
	seen := len(r.Log(cmd))
	return func() string { return r.Log(cmd)[seen:] }
}

// StartFRR runs zebra, bgpd and bfdd with the given integrated configuration.
func (r *Router) StartFRR(config string) {
	r.t.Helper()
	run(r.t, []string{"chown", "frr:frr", r.dir}) // the daemons drop root
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		args := []string{
			"/usr/lib/frr/" + daemon, "-A", "127.0.0.1", "-P", "0",
			"--vty_socket", r.dir, "-z", r.dir + "/zserv.api", "-i", r.dir + "/" + daemon + ".pid",
			"-f", "/dev/null", "--log", "stdout",
		}
		if daemon != "zebra" && daemon != "bgpd" {
			args = append(args, "--bfdctl", r.dir+"/bfdd.sock")
		}
		r.Start(args...)
		r.Until(10*time.Second, func() string { return exists(r.dir + "/" + daemon + ".vty") })
	}
	r.Configure(config)
}

// Configure gives FRR more configuration.
func (r *Router) Configure(config string) {
	r.t.Helper()
	path := filepath.Join(r.dir, "frr.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		r.t.Fatal(err)
	}
	run(r.t, []string{"vtysh", "--vty_socket", r.dir, "-f", path})
}

// Vtysh asks FRR.
func (r *Router) Vtysh(command string) string {
	r.t.Helper()
	return run(r.t, []string{"vtysh", "--vty_socket", r.dir, "-c", command})
}

// Signal sends one of FRR's daemons a signal: STOP, CONT.
func (r *Router) Signal(daemon, signal string) {
	r.t.Helper()
	run(r.t, []string{"sh", "-c", fmt.Sprintf("kill -%s $(cat %s/%s.pid)", signal, r.dir, daemon)})
}

// Renice gives one of FRR's daemons another priority: -20 is the highest.
func (r *Router) Renice(daemon string, nice int) {
	r.t.Helper()
	run(r.t, []string{"sh", "-c", fmt.Sprintf("renice -n %d -p $(cat %s/%s.pid)", nice, r.dir, daemon)})
}

// StartBIRD runs BIRD with the given configuration.
func (r *Router) StartBIRD(config string) {
	r.t.Helper()
	path := filepath.Join(r.dir, "bird.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.Start("bird", "-f", "-c", path, "-s", r.dir+"/bird.ctl", "-P", r.dir+"/bird.pid")
	r.Until(10*time.Second, func() string { return exists(r.dir + "/bird.ctl") })
}

// Birdc asks BIRD, which answers "Network not found" with an error status, too.
func (r *Router) Birdc(command string) string {
	r.t.Helper()
	args := append([]string{"birdc", "-s", r.dir + "/bird.ctl"}, strings.Fields(command)...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func exists(path string) string {
	if _, err := os.Stat(path); err != nil {
		return err.Error()
	}
	return ""
}

// Until asks again and again until check returns "" and fails the test with its last
// words if that takes too long. It returns how long it took.
func (r *Router) Until(limit time.Duration, check func() string) time.Duration {
	r.t.Helper()
	return Until(r.t, limit, check)
}

// Until is Router.Until without a router.
func Until(t testing.TB, limit time.Duration, check func() string) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		why := check()
		switch took := time.Since(start); {
		case why == "":
			return took
		case took > limit:
			t.Fatalf("after %s: %s", took.Round(time.Millisecond), why)
		}
		<-tick.C
	}
}
