package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestServeStartsOnADiskThatIsFull(t *testing.T) {
	c, path := config(t)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", c.StateDir, "tmpfs", 0, "size=16m"); err != nil {
		if os.Geteuid() == 0 && !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skipf("no disk can be mounted here (%v)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(c.StateDir, 0); err != nil {
			t.Error(err)
		}
	})
	host, engine := engineSocket(t)
	c.Engine.Host = host
	const image = "127.0.0.1:5000/app:v1"
	started := make(chan struct{}, 2)
	engine.Script(image, func(p *enginetest.Pull) { started <- struct{}{}; <-p.Gone() })
	stop := startServe(t, c)
	caller, err := client.New("unix://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	accepted, err := caller.Submit(ctx, puller.PullRequest{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(c.StateDir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if f.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}

	engine.Script(image, enginetest.Serve(enginetest.NewImage(image, 1)))
	startServe(t, c)
	if _, err := caller.Submit(ctx, puller.PullRequest{Image: image}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(fmt.Sprint(err), "make space there") {
		t.Errorf("a new job: %v", err)
	}
	if got := get(t, path, "/readyz"); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "make space there") {
		t.Errorf("/readyz: %s", got)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	until := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal(what)
			}
		}
	}
	until("the job that was accepted before does not end", func() bool {
		j, err := caller.Job(ctx, accepted.ID)
		return err == nil && j.State == puller.StateSucceeded
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	until("it does not recover", func() bool { return strings.HasPrefix(get(t, path, "/readyz"), "200 ") })
	if j, err := caller.Pull(ctx, puller.PullRequest{Image: image}); err != nil || j.State != puller.StateSucceeded {
		t.Errorf("with space again: %+v, %v", j, err)
	}
}
