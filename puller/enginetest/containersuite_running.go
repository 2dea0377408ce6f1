package enginetest

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest/testprogram"
)

// running starts a container and returns when it has printed. wait returns Run's result.
func (f ContainerFixture) running(t *testing.T, ctx context.Context, c engines.Container) (id string, wait func() (engines.Exit, error)) {
	t.Helper()
	id = f.create(t, c)
	type end struct {
		exit engines.Exit
		err  error
	}
	ended := make(chan end, 1)
	up := make(chan struct{}, 1)
	go func() {
		exit, err := f.Engine.Run(ctx, id, c.TTY, func() {}, func(puller.Output, []byte) {
			select {
			case up <- struct{}{}:
			default:
			}
		})
		ended <- end{exit, err}
	}()
	select {
	case <-up:
	case e := <-ended:
		t.Fatalf("it ended without output: %+v", e)
	case <-time.After(limit):
		t.Fatal("it does not print")
	}
	return id, func() (engines.Exit, error) { e := <-ended; return e.exit, e.err }
}

func (f ContainerFixture) testStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, c := range []struct {
		steps []string
		grace time.Duration
		code  int
	}{
		{[]string{"term", "out=up", "sleep=1h"}, time.Second, 137},
		{[]string{"term", "out=up", "sleep=1h"}, 0, 137},
		{[]string{"out=up", "sleep=1h"}, limit, 143},
	} {
		id, wait := f.running(t, ctx, f.container(c.steps...))
		for range 2 {
			if err := f.Engine.Stop(ctx, id, c.grace); err != nil {
				t.Error(err)
			}
		}
		if exit, err := wait(); err != nil || exit != (engines.Exit{Code: c.code}) {
			t.Errorf("%v, stopped with grace %s, exited as %+v, %v", c.steps, c.grace, exit, err)
		}
		if err := f.Engine.Remove(ctx, id); err != nil {
			t.Error(err)
		}
		if err := f.Engine.Stop(ctx, id, time.Second); err != nil {
			t.Errorf("stop of a removed container: %v", err)
		}
	}
}

func (f ContainerFixture) testFollow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for range 5 {
		id, wait := f.running(t, ctx, f.container("bytes", "sleep=500ms", "lines=100", "exit=3"))
		var h output
		exit, err := f.Engine.Follow(ctx, id, false, h.each)
		if err != nil || exit != (engines.Exit{Code: 3}) {
			t.Errorf("it exited as %+v, %v", exit, err)
		}
		if !bytes.HasPrefix(h.stdout.Bytes(), testprogram.AllBytes()) || !strings.HasSuffix(h.stdout.String(), "stdout 99\n") || !strings.HasSuffix(h.stderr.String(), "stderr 99\n") {
			t.Errorf("got %q and %q", h.stdout.String(), h.stderr.String())
		}
		if n := strings.Count(h.stdout.String(), "stdout 99\n"); n != 1 {
			t.Errorf("got the end %d times", n)
		}
		wait()
	}
}

func (f ContainerFixture) testFollowLate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, tty := range []bool{false, true} {
		c := f.container("bytes", "out=no newline at the end", "exit=3")
		if tty {
			c = f.container("out=a\nb", "exit=3")
			c.TTY = true
		}
		id := f.create(t, c)
		if _, err := f.Engine.Follow(ctx, id, tty, (&output{}).each); err == nil {
			t.Error("a container that was never started was followed")
		}
		var first, second output
		if _, err := f.Engine.Run(ctx, id, tty, func() {}, first.each); err != nil {
			t.Fatal(err)
		}
		exit, err := f.Engine.Follow(ctx, id, tty, second.each)
		if err != nil || exit != (engines.Exit{Code: 3}) {
			t.Errorf("it exited as %+v, %v", exit, err)
		}
		if !bytes.Equal(first.stdout.Bytes(), second.stdout.Bytes()) || !bytes.Equal(first.stderr.Bytes(), second.stderr.Bytes()) {
			t.Errorf("got %q and %q, and then %q and %q", first.stdout.Bytes(), first.stderr.Bytes(), second.stdout.Bytes(), second.stderr.Bytes())
		}
	}
	_, err := f.Engine.Follow(ctx, strings.Repeat("0", 64), false, (&output{}).each)
	wantKind(t, err, puller.ErrNotFound)
}

func (f ContainerFixture) testContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	id, wait := f.running(t, ctx, f.container("out=up", "sleep=2s", "out= and away", "exit=4"))
	cancel()
	began := time.Now()
	_, err := wait()
	wantKind(t, err, puller.ErrCanceled)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it returned after %s", took)
	}
	ctx, cancel = context.WithTimeout(t.Context(), limit)
	defer cancel()
	short, cancelShort := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelShort()
	_, err = f.Engine.Follow(short, id, false, (&output{}).each)
	wantKind(t, err, puller.ErrTimeout)
	var h output
	exit, err := f.Engine.Follow(ctx, id, false, h.each)
	if err != nil || exit != (engines.Exit{Code: 4}) || h.stdout.String() != "up and away" {
		t.Errorf("it exited as %+v, %v, and had printed %q", exit, err, h.stdout.String())
	}
}
