package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// engineProcesses returns the ids of the processes of the engine whose exec root is
// execRoot: its dockerd and its containerd, each known by an argument that names a
// path in execRoot. With containers, it adds the containers' shims and all descendants
// of the lot. Zombies do not count: they are dead, and their parent's to reap.
func engineProcesses(execRoot string, containers bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		state, parent, ok := stat(pid)
		if !ok || state == "Z" {
			continue
		}
		children[parent] = append(children[parent], pid)
		program := engineProgram(pid, execRoot)
		if program == "dockerd" || program == "containerd" ||
			containers && (program == "runc" || strings.HasPrefix(program, "containerd-shim")) {
			found = append(found, pid)
		}
	}
	for i := 0; containers && i < len(found); i++ { // found grows as it is walked
		for _, child := range children[found[i]] {
			if !slices.Contains(found, child) {
				found = append(found, child)
			}
		}
	}
	return found, nil
}

// engineProgram returns the name of the program that a process runs, if one of its
// arguments names execRoot or a path in it, and else "".
func engineProgram(pid int, execRoot string) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	for _, arg := range args[1:] {
		arg = strings.TrimPrefix(arg, "--exec-root=")
		if arg == execRoot || strings.HasPrefix(arg, execRoot+"/") {
			return filepath.Base(args[0])
		}
	}
	return ""
}

// stat reads a process's state letter and its parent; see proc(5).
func stat(pid int) (state string, parent int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	// The second field is the name in parentheses, which may itself hold spaces.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// killEngine kills what engineProcesses finds, until nothing is found any more.
func killEngine(execRoot string, containers bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return Poll(ctx, 20*time.Millisecond, func(context.Context) error {
		pids, err := engineProcesses(execRoot, containers)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing %d: %w", pid, err)
			}
		}
		return fmt.Errorf("processes %v of %s still run", pids, execRoot)
	})
}
