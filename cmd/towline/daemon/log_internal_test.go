package daemon

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/configs"
)

// numbered writes lines 0 to n-1, each of 100 bytes.
func numbered(out io.Writer, n int) {
	for i := range n {
		fmt.Fprintf(out, "%06d %s\n", i, strings.Repeat("x", 92))
	}
}

func TestLogIsBounded(t *testing.T) {
	r, w := io.Pipe()
	b := NewLog(w)
	logger := newLogger(configs.Log{Level: "info", Format: "json"}, b)
	b.reportWith(logger)
	const lines = 40_000 // 4 MB
	numbered(b, lines)
	dropped := int(b.dropped.Load())
	if most := 2*logSize/100 + 1; dropped < lines-most || dropped > lines-logSize/100 {
		t.Errorf("%d of %d lines were dropped", dropped, lines)
	}
	var got bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(&got, r) })
	b.Close()
	w.Close()
	reading.Wait()
	var want bytes.Buffer
	numbered(&want, lines)
	told, note, _ := strings.Cut(got.String(), "{")
	if want := want.String()[:100*(lines-dropped)]; told != want {
		t.Errorf("%d bytes were written, not the first %d lines", len(told), lines-dropped)
	}
	if !strings.Contains(note, fmt.Sprintf(`"msg":"%d lines of the log were dropped: `, dropped)) || !strings.HasSuffix(note, "}\n") {
		t.Errorf("it ends with %q", note)
	}
}

// faulty fails until it is well.
type faulty struct {
	mu    sync.Mutex
	well  bool
	text  bytes.Buffer
	tried chan struct{}
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.well {
		f.tried <- struct{}{}
		return 0, syscall.ENOSPC
	}
	return f.text.Write(p)
}

func TestLogRecoversFromWriteErrors(t *testing.T) {
	f := &faulty{tried: make(chan struct{}, 10)}
	b := NewLog(f)
	for range 3 {
		fmt.Fprintln(b, "lost")
		<-f.tried
	}
	f.mu.Lock()
	f.well = true
	f.mu.Unlock()
	fmt.Fprintln(b, "kept")
	b.Close()
	if got, want := f.text.String(), "kept\ntowline: 3 lines of the log were dropped: they could not be written in time\n"; got != want {
		t.Errorf("%q", got)
	}
	if n := b.dropped.Load(); n != 3 {
		t.Errorf("%v were counted", n)
	}
	fmt.Fprintln(b, "late")
	if n := b.dropped.Load(); n != 4 {
		t.Errorf("after the end, %v were counted", n)
	}
}

func TestLogCloseDoesNotBlock(t *testing.T) {
	r, w := io.Pipe()
	b := NewLog(w)
	fmt.Fprintln(b, "one")
	began := time.Now()
	b.Close()
	if d := time.Since(began); d < flushLimit || d > flushLimit+5*time.Second {
		t.Errorf("it took %s", d)
	}
	r.Close()
	<-b.done
}

func TestLogCapturesStderr(t *testing.T) {
	var got bytes.Buffer
	b := NewLog(&got)
	was := os.Stderr
	if err := b.CaptureStderr(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "a library\x1b[2J")
	helper := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo a helper >&2")
	helper.Stderr = os.Stderr
	if err := helper.Run(); err != nil {
		t.Error(err)
	}
	b.Close()
	if got.String() != "a library�[2J\na helper\n" || os.Stderr != was {
		t.Errorf("%q", got.String())
	}
}
