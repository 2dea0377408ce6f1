// Command actor is the actor of the conformance suite, in a container.
package main

import (
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/puller/enginetest/actor"
)

func main() {
	// The first process of a container gets no signal that it does not handle.
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	os.Exit(actor.Act(os.Args[1:], &world{term: term}))
}

type world struct {
	term  chan os.Signal
	eaten []byte
}

func (w *world) Stdout() io.Writer { return os.Stdout }
func (w *world) Stderr() io.Writer { return os.Stderr }
func (w *world) IgnoreTERM()       { signal.Ignore(syscall.SIGTERM) }

func (w *world) Wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.term:
		return false
	}
}

func (w *world) Eat(bytes int) bool {
	w.eaten = make([]byte, bytes)
	for i := 0; i < len(w.eaten); i += 4096 {
		w.eaten[i] = 1
	}
	return true
}

func (w *world) Self() actor.Self {
	dir, _ := os.Getwd()
	s := actor.Self{Args: os.Args, Env: os.Environ(), Dir: dir, UID: os.Getuid(), GID: os.Getgid()}
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
