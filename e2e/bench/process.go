package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// process is a program that ends with this one.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// launch starts a program in a network namespace, 0 being this program's own.
func launch(ns netns.NsHandle, program, logFile string, env []string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	p := &process{cmd: exec.Command(program, args...), log: logFile, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends that signal when the thread that started the program ends, so this thread has to stay.
		runtime.LockOSThread()
		defer log.Close()
		err := enter(ns)
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// enter moves this thread to a namespace.
func enter(ns netns.NsHandle) error {
	if ns == 0 {
		return nil
	}
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}

// kill ends the program at once and waits until it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.ended
	return nil
}

// pause stops the program where it is, so that it disturbs no measurement; resume lets it go on.
func (p *process) pause() error  { return p.signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.signal(syscall.SIGCONT) }

func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// running tells whether the program has not ended yet; the error has its last words.
func (p *process) running() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %s", p.cmd.Path, lastLines(p.log, 5))
	default:
		return nil
	}
}

// cpu is processor time, the program's own and that of the children it waited for.
type cpu struct {
	User, Kernel time.Duration
}

func (c cpu) minus(other cpu) cpu { return cpu{c.User - other.User, c.Kernel - other.Kernel} }

func (c cpu) total() time.Duration { return c.User + c.Kernel }

// cpu reads what the program and its children have used so far, see proc_pid_stat(5).
func (p *process) cpu() (cpu, error) {
	pid := p.cmd.Process.Pid
	used, ended, err := processorTime(pid)
	if err != nil {
		return cpu{}, err
	}
	used = cpu{used.User + ended.User, used.Kernel + ended.Kernel}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return cpu{}, fmt.Errorf("find children: %w", err)
	}
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		for _, child := range strings.Fields(string(children)) {
			number, err := strconv.Atoi(child)
			if err != nil {
				return cpu{}, fmt.Errorf("find children: %w", err)
			}
			if own, _, err := processorTime(number); err == nil {
				used = cpu{used.User + own.User, used.Kernel + own.Kernel}
			}
		}
	}
	return used, nil
}

// processorTime is what a process has used, and what those of its children had used that it waited for.
func processorTime(pid int) (own, ended cpu, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpu{}, cpu{}, fmt.Errorf("read the processor time: %w", err)
	}
	const utime, ticks = 11, 100 // the field behind the name and the state, and the kernel's USER_HZ
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var found [4]time.Duration // utime, stime, cutime, cstime
	for i := range found {
		n, err := strconv.ParseInt(fields[utime+i], 10, 64)
		if err != nil {
			return cpu{}, cpu{}, fmt.Errorf("read the processor time: %w", err)
		}
		found[i] = time.Duration(n) * time.Second / ticks
	}
	return cpu{found[0], found[1]}, cpu{found[2], found[3]}, nil
}

// memory reads a line of /proc/PID/status, in bytes.
func (p *process) memory(name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the memory: %w", err)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("no %s in /proc/PID/status", name)
}

// memoryGroups is where version 1 of control groups accounts kernel memory by itself.
const memoryGroups = "/sys/fs/cgroup/memory"

// ownGroups begins the names of this program's groups, before its number.
const ownGroups = "fairlead-bench-"

// forgetGroups removes the groups of this program. What the kernel still holds for them goes with the namespaces.
func forgetGroups() {
	dirs, err := filepath.Glob(filepath.Join(memoryGroups, fmt.Sprintf("%s%d-*", ownGroups, os.Getpid())))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		_ = os.Remove(dir)
	}
}

// account puts the program in a memory control group, if the machine has them.
func (p *process) account(name string) {
	dir := filepath.Join(memoryGroups, fmt.Sprintf("%s%d-%s-%d", ownGroups, os.Getpid(), name, p.cmd.Process.Pid))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return
	}
	pid := strconv.Itoa(p.cmd.Process.Pid)
	_ = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0) // else its memory is not known
}

// kernelMemory is what the kernel holds for all processes that were accounted under a name: once they have ended, that
// is their tables. 0 if unknown.
func kernelMemory(name string) float64 {
	files, err := filepath.Glob(filepath.Join(memoryGroups, fmt.Sprintf("%s%d-%s-*", ownGroups, os.Getpid(), name), "memory.kmem.usage_in_bytes"))
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return sum
}

func lastLines(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
