// Command testprogram is the program that containers run in the conformance suite.
package main

import (
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/puller/enginetest/testprogram"
)

func main() {
	// The first process of a container gets no signal that it does not handle.
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	os.Exit(testprogram.Run(os.Args[1:], &environment{term: term}))
}

type environment struct {
	term   chan os.Signal
	memory []byte
}

func (e *environment) Stdout() io.Writer { return os.Stdout }
func (e *environment) Stderr() io.Writer { return os.Stderr }
func (e *environment) IgnoreTERM()       { signal.Ignore(syscall.SIGTERM) }

func (e *environment) Wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-e.term:
		return false
	}
}

func (e *environment) Allocate(bytes int) bool {
	e.memory = make([]byte, bytes)
	for i := 0; i < len(e.memory); i += 4096 {
		e.memory[i] = 1
	}
	return true
}

func (e *environment) Self() testprogram.Self {
	dir, _ := os.Getwd()
	s := testprogram.Self{Args: os.Args, Env: os.Environ(), Dir: dir, UID: os.Getuid(), GID: os.Getgid()}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapEff":
			s.CapEff = strings.TrimSpace(value)
		case "NoNewPrivs":
			s.NoNewPrivs = strings.TrimSpace(value)
		}
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		s.Interfaces = append(s.Interfaces, i.Name)
	}
	return s
}
