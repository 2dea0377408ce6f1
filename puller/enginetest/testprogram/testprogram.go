// Package testprogram is the program that containers run in the conformance suite:
// as the only file of a real image, and inside the scripted engine. It imports only
// the standard library.
package testprogram

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Environment is what the program runs in: a real container or a scripted one.
type Environment interface {
	Stdout() io.Writer
	Stderr() io.Writer
	// Wait lets time pass. It returns false when the program must end.
	Wait(d time.Duration) bool
	IgnoreTERM()
	// Allocate takes memory, in bytes. It returns false when there is not enough.
	Allocate(bytes int) bool
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

// Run executes its arguments one after the other and returns the exit code:
//
//	out=TEXT, err=TEXT  print text
//	lines=N             print "stdout I" and "stderr I", each on a line, N times
//	bytes               print AllBytes to stdout, and twice to stderr
//	random=N            print RandomBytes(N) to stdout
//	self                print Self as JSON to stdout
//	term                ignore SIGTERM from now on
//	graceful            from now on, exit with 0 on SIGTERM
//	sleep=DURATION      do nothing
//	alloc=N             allocate N bytes of memory
//	exit=N              exit
func Run(args []string, e Environment) int {
	onTERM := 143
	for _, arg := range args {
		verb, text, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(text)
		switch verb {
		case "out":
			io.WriteString(e.Stdout(), text)
		case "err":
			io.WriteString(e.Stderr(), text)
		case "lines":
			for i := range n {
				fmt.Fprintf(e.Stdout(), "stdout %d\n", i)
				fmt.Fprintf(e.Stderr(), "stderr %d\n", i)
			}
		case "bytes":
			e.Stdout().Write(AllBytes())
			e.Stderr().Write(append(AllBytes(), AllBytes()...))
		case "random":
			io.Copy(e.Stdout(), random(n))
		case "self":
			json.NewEncoder(e.Stdout()).Encode(e.Self())
		case "term":
			e.IgnoreTERM()
		case "graceful":
			onTERM = 0
		case "sleep":
			d, _ := time.ParseDuration(text)
			if !e.Wait(d) {
				return onTERM
			}
		case "alloc":
			if !e.Allocate(n) {
				return 137
			}
		case "exit":
			return n
		default:
			fmt.Fprintf(e.Stderr(), "testprogram: %q?\n", arg)
			return 64
		}
	}
	return 0
}

// AllBytes returns all byte values, from 255 to 0. They are not UTF-8 and do not end
// with a line break.
func AllBytes() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(255 - i)
	}
	return b
}

// RandomBytes returns n bytes. They are the same in every call.
func RandomBytes(n int) []byte {
	b, _ := io.ReadAll(random(n))
	return b
}

func random(n int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(n))
}
