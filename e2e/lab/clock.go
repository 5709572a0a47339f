package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockCommand sets the wall clock of a host, which it shares with the machine: a time namespace has clocks of its own
// for the time since boot, but not for the time of day.
func (l lab) clockCommand(ctx context.Context, args []string) error {
	usage := errors.New("usage: lab clock HOST OFFSET [PROGRAM], where OFFSET is as +1h, -30s or 0, and PROGRAM as speaker or kubelet")
	if len(args) < 2 || len(args) > 3 {
		return usage
	}
	h, err := findHost(args[0])
	if err != nil {
		return err
	}
	offset, err := time.ParseDuration(args[1])
	if err != nil {
		return usage
	}
	program := ""
	if len(args) == 3 {
		program = args[2]
	}
	pids, err := processesIn(h, program)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := setClock(ctx, pid, offset); err != nil {
			return fmt.Errorf("set the clock of %s: %w", h.Name, err)
		}
	}
	fmt.Printf("%d processes on %s take it to be %s\n", len(pids), h.Name, time.Now().Add(offset).Format(time.RFC3339))
	return nil
}

// setClock lets a running process see another time of day: the code that the kernel put into its memory to read the
// clocks (vDSO) is replaced in this process alone by code that asks the kernel, and adds the offset to CLOCK_REALTIME.
// The other clocks stay, as when the time of day of a machine is set.
func setClock(ctx context.Context, pid int, offset time.Duration) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the clock of process %d: %w", pid, err)
	}
	defer mem.Close()
	code, err := clockCode(offset)
	if err != nil {
		return err
	}
	from, size, err := clockFunction(pid, mem)
	if err == nil && size < uint64(len(code)) {
		err = fmt.Errorf("its function has %d bytes, %d are needed", size, len(code))
	}
	if err == nil {
		err = whileStopped(ctx, pid, from, size, func() error {
			_, err := mem.WriteAt(code, int64(from))
			return err
		})
	}
	if err != nil && processEnded(pid) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the clock of process %d: %w", pid, err)
	}
	return nil
}

// clockCode is a clock_gettime(2) that moves the time of day.
func clockCode(offset time.Duration) ([]byte, error) {
	if offset%time.Second != 0 {
		return nil, fmt.Errorf("a clock can be whole seconds wrong, not %s", offset)
	}
	seconds := int64(offset / time.Second)
	if seconds != int64(int32(seconds)) {
		return nil, fmt.Errorf("a clock can be %d seconds wrong at most, not %d", 1<<31-1, seconds)
	}
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("clocks can be set on amd64 only, not on %s", runtime.GOARCH)
	}
	code := []byte{
		0xb8, unix.SYS_CLOCK_GETTIME, 0, 0, 0, // mov eax, SYS_clock_gettime; edi is the clock, rsi where the time goes
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi; CLOCK_REALTIME is 0
		0x75, 0x07, // jne to the end
		0x48, 0x81, 0x06, // add qword ptr [rsi],
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(int32(seconds)))
	return append(code, 0xc3), nil // ret
}

// clockFunction finds the function that reads the clocks in the memory of a process.
func clockFunction(pid int, mem io.ReaderAt) (from, size uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read its memory map: %w", err)
	}
	var start, end uint64
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
				return 0, 0, fmt.Errorf("read its memory map: %w", err)
			}
		}
	}
	image := make([]byte, end-start)
	if len(image) == 0 {
		return 0, 0, errors.New("it has no vDSO")
	}
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		return 0, 0, fmt.Errorf("read its vDSO: %w", err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, fmt.Errorf("read its vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("read its vDSO: %w", err)
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__vdso_clock_gettime" })
	if i < 0 {
		return 0, 0, errors.New("its vDSO has no __vdso_clock_gettime")
	}
	return start + symbols[i].Value, symbols[i].Size, nil
}

// whileStopped does something to a function while no thread of the process can be within it.
func whileStopped(ctx context.Context, pid int, from, size uint64, do func() error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			return fmt.Errorf("stop it: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), unix.Kill(pid, unix.SIGCONT))
		}
		clear, err := stoppedOutside(pid, from, size)
		if err == nil && clear {
			err = do()
		}
		if err := errors.Join(err, unix.Kill(pid, unix.SIGCONT)); err != nil || clear {
			return err
		}
	}
	return errors.New("it does not stop outside the code that reads the clock")
}

// stoppedOutside reports whether all threads of a process stand still, and none of them within a function.
func stoppedOutside(pid int, from, size uint64) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return false, fmt.Errorf("list its threads: %w", err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(thread, "stat"))
		if err != nil {
			return false, fmt.Errorf("read its state: %w", err)
		}
		if state, _, err := parseStat(string(text)); err != nil || state != "T" {
			return false, err
		}
		text, err = os.ReadFile(filepath.Join(thread, "syscall"))
		if err != nil {
			return false, fmt.Errorf("read where it stands: %w", err)
		}
		fields := strings.Fields(string(text)) // the program counter is the last
		at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil || from < at && at < from+size { // "running" has none
			return false, nil
		}
	}
	return true, nil
}

// processEnded reports whether there is no such process any more, or it only waits to be reaped.
func processEnded(pid int) bool {
	_, err := startTime(pid)
	return err != nil
}
