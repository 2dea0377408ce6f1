package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/integration/lab"
)

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
