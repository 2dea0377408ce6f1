// Package actor is the program that containers run in the conformance suite: as
// the only file of a real image, and inside the scripted engine. It imports the
// standard library only.
package actor

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// World is what the actor lives in.
type World interface {
	Stdout() io.Writer
	Stderr() io.Writer
	// Wait lets time pass, and returns false when the actor is to end.
	Wait(d time.Duration) bool
	IgnoreTERM()
	// Eat takes bytes of memory, and returns where there were as many.
	Eat(bytes int) bool
	Self() Self
}

// Self is what a container can see of itself.
type Self struct {
	Args, Env  []string
	Dir        string
	UID, GID   int
	CapEff     string // hexadecimal, from /proc/self/status
	NoNewPrivs string
	Interfaces []string
}

// Act plays its arguments, one after the other, and returns the exit code:
//
//	out=TEXT, err=TEXT  print text
//	lines=N             print "stdout I" and "stderr I", each on a line, N times
//	bytes               print All to stdout, and twice to stderr
//	flood=N             print Flood(N) to stdout
//	self                print Self as JSON to stdout
//	term                ignore SIGTERM from now on
//	graceful            exit with 0 when SIGTERM comes from now on
//	sleep=DURATION      do nothing
//	eat=N               take N bytes of memory
//	exit=N              exit
func Act(args []string, w World) int {
	ended := 143
	for _, arg := range args {
		verb, text, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(text)
		switch verb {
		case "out":
			io.WriteString(w.Stdout(), text)
		case "err":
			io.WriteString(w.Stderr(), text)
		case "lines":
			for i := range n {
				fmt.Fprintf(w.Stdout(), "stdout %d\n", i)
				fmt.Fprintf(w.Stderr(), "stderr %d\n", i)
			}
		case "bytes":
			w.Stdout().Write(All())
			w.Stderr().Write(append(All(), All()...))
		case "flood":
			io.Copy(w.Stdout(), flood(n))
		case "self":
			json.NewEncoder(w.Stdout()).Encode(w.Self())
		case "term":
			w.IgnoreTERM()
		case "graceful":
			ended = 0
		case "sleep":
			d, _ := time.ParseDuration(text)
			if !w.Wait(d) {
				return ended
			}
		case "eat":
			if !w.Eat(n) {
				return 137
			}
		case "exit":
			return n
		default:
			fmt.Fprintf(w.Stderr(), "actor: %q?\n", arg)
			return 64
		}
	}
	return 0
}

// All returns all bytes, from 255 to 0: no line end at the end, and no UTF-8.
func All() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(255 - i)
	}
	return b
}

// Flood returns n bytes that always are the same.
func Flood(n int) []byte {
	b, _ := io.ReadAll(flood(n))
	return b
}

func flood(n int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(n))
}
