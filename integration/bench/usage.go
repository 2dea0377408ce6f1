package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/integration/lab"
)

// ticks is the unit of times in /proc, a hundredth of a second on Linux wherever
// Go runs (sysconf(3), _SC_CLK_TCK).
const ticks = time.Second / 100

// cpu returns the time that a process has had of the processors, its own and the
// kernel's on its behalf. That of its children is not in it.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, which may hold anything, ends at the last parenthesis; utime and
	// stime are fields 14 and 15 (proc(5)).
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * ticks, err
}

// resident returns how much memory a process holds, in bytes.
func resident(pid int) (int64, error) {
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

// openFiles returns how many files a process may have open. Go has raised that as
// far as it goes.
func openFiles() (int, error) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return int(min(limit.Max, 1<<20)), err
}

// metrics returns values of a daemon's metrics, in the order of their names.
func metrics(ctx context.Context, d *lab.Towline, names ...string) ([]float64, error) {
	resp, err := d.Do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	told := make(map[string]string)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			told[name] = value
		}
	}
	values := make([]float64, len(names))
	for i, name := range names {
		if values[i], err = strconv.ParseFloat(told[name], 64); err != nil {
			return nil, fmt.Errorf("/metrics: %s: %w", name, err)
		}
	}
	return values, nil
}
