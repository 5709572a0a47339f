package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is one that the lab started. The start time tells it from a later process with the same number.
type process struct {
	Host  string
	Name  string
	PID   int
	Start uint64 // clock ticks after boot
}

// A program is what to run on a host under a name of the lab's own.
type program struct {
	Host  host
	Name  string
	Args  []string   // the first is the binary's path
	Env   []string   // beyond PATH and HOME
	Files []*os.File // inherited from descriptor 3 on
}

func (l lab) pidFile(hostName, name string) string { return l.path("run", hostName, name+".pid") }

// logFile is where a program's output goes.
func (l lab) logFile(hostName, name string) string {
	return l.path("hosts", hostName, "log", name+".log")
}

// run starts a program that outlives this command and notes its process. The channel receives how it ended,
// should that happen while this command is still there.
func (l lab) run(p program) (<-chan error, error) {
	log := l.logFile(p.Host.Name, p.Name)
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Name, err)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append([]string{"PATH=" + searchPath, "HOME=" + hostState}, p.Env...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = out, out, p.Files, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := l.start(p.Host, cmd); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", p.Name, p.Host.Name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, l.note(p.Host.Name, p.Name, cmd.Process.Pid)
}

// searchPath is the PATH of everything that runs on a host.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// note writes the file that makes a process ours.
func (l lab) note(hostName, name string, pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("note %s on %s: %w", name, hostName, err)
	}
	return writeFile(l.pidFile(hostName, name), fmt.Appendf(nil, "%d %d\n", pid, start))
}

// processes lists what the lab started, sorted by host and name, alive or not.
func (l lab) processes() ([]process, error) {
	files, err := filepath.Glob(l.path("run", "*", "*.pid"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var ps []process
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		p := process{Host: filepath.Base(filepath.Dir(f)), Name: strings.TrimSuffix(filepath.Base(f), ".pid")}
		// A file cut short by a crash names no process, and is one of a dead one.
		if _, err := fmt.Sscan(string(text), &p.PID, &p.Start); err != nil {
			p.PID, p.Start = 0, 0
		}
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b process) int {
		return strings.Compare(a.Host+"\x00"+a.Name, b.Host+"\x00"+b.Name)
	})
	return ps, nil
}

// alive says whether this very process still runs. One that only waits to be reaped does not.
func (p process) alive() bool {
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

// startTime returns when a process started, in clock ticks after boot; an error when there is none.
func startTime(pid int) (uint64, error) {
	if pid <= 0 {
		return 0, fmt.Errorf("no process %d", pid)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read process %d: %w", pid, err)
	}
	state, start, err := parseStat(string(text))
	if err != nil {
		return 0, fmt.Errorf("read process %d: %w", pid, err)
	}
	if state == "Z" || state == "X" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return start, nil
}

// parseStat reads the state and the start time out of /proc/PID/stat. The second field, the name in
// parentheses, may hold spaces and parentheses itself, so fields are counted from the last parenthesis.
func parseStat(text string) (state string, start uint64, err error) {
	_, rest, ok := cutLast(text, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", 0, fmt.Errorf("%q is not a line of /proc/PID/stat", text)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return "", 0, fmt.Errorf("start time: %w", err)
	}
	return fields[0], start, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// kill ends every process that list returns and comes back when it returns none. Killing everything at once
// and looking again is simpler than any order: what a supervisor restarted meanwhile is found the next time.
func kill(ctx context.Context, list func() ([]int, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		pids, err := list()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	pids, err := list()
	if err == nil && len(pids) > 0 {
		err = fmt.Errorf("processes %v do not end", pids)
	}
	return err
}

// tail returns the last n lines of a log that say something: errors first of all stand at the end.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
