package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
)

func TestServeStartsOnADiskThatIsFull(t *testing.T) {
	c, path := config(t)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	storetest.SmallDisk(t, c.StateDir, "16m")
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
	accepted, err := caller.Submit(ctx, client.PullRequest{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	free := storetest.FillDisk(t, c.StateDir)

	engine.Script(image, enginetest.Serve(enginetest.NewImage(image, 1)))
	startServe(t, c)
	if _, err := caller.Submit(ctx, client.PullRequest{Image: image}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(fmt.Sprint(err), "make space there") {
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
	free()
	until("it does not recover", func() bool { return strings.HasPrefix(get(t, path, "/readyz"), "200 ") })
	if j, err := caller.Pull(ctx, client.PullRequest{Image: image}); err != nil || j.State != puller.StateSucceeded {
		t.Errorf("with space again: %+v, %v", j, err)
	}
}

// It also starts where there is no file of jobs yet.
func TestServeStartsWithoutASpareByte(t *testing.T) {
	c, path := config(t)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	storetest.SmallDisk(t, c.StateDir, "16m")
	host, _ := engineSocket(t)
	c.Engine.Host = host
	storetest.FillDisk(t, c.StateDir)
	startServe(t, c)
	if got := get(t, path, "/readyz"); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "jobs can't be written to the store") || !strings.Contains(got, "make space there") {
		t.Errorf("/readyz: %s", got)
	}
}
