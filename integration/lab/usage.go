package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is the unit of times in /proc, a hundredth of a second on Linux wherever
// Go runs (sysconf(3), _SC_CLK_TCK).
const ticks = time.Second / 100

// CPU returns the time that a process has had of the processors, its own and the
// kernel's on its behalf. That of its children is not in it.
func CPU(pid int) (time.Duration, error) { return cpu(pid, 2) }

// TreeCPU is CPU with the time of the process's children that have ended: an engine
// unpacks each layer in one.
func TreeCPU(pid int) (time.Duration, error) { return cpu(pid, 4) }

// cpu adds up so many of a process's times: utime, stime, cutime and cstime are fields 14
// to 17 (proc(5)).
func cpu(pid, times int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, which may hold anything, ends at the last parenthesis.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	var sum int64
	for _, field := range fields[11 : 11+times] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * ticks, nil
}

// Resident returns how much memory a process holds, in bytes.
func Resident(pid int) (int64, error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q", pid, statm)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// PeakResident returns how much memory a process held at most, in bytes.
func PeakResident(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status tells no peak", pid)
}

// Busy returns the time for which this machine's processors had something to do since
// it was started, summed over them.
func Busy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(first) // cpu user nice system idle iowait irq softirq … (proc(5))
	if len(fields) < 8 {
		return 0, fmt.Errorf("/proc/stat: %q", first)
	}
	var busy int64
	for i, field := range fields[1:8] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return time.Duration(busy) * ticks, nil
}
