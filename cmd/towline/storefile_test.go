package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/storetest"
)

const storeImage = "registry.test/team/app:v1"

// servingStore runs a daemon with an engine that serves storeImage.
func servingStore(t *testing.T, prepare func(file string)) (caller *client.Client, path, file string) {
	t.Helper()
	c, path := config(t)
	file = filepath.Join(c.StateDir, "jobs.db")
	prepare(file)
	host, engine := engineSocket(t)
	engine.Script(storeImage, enginetest.Serve(enginetest.NewImage(storeImage, 1)))
	c.Engine.Host = host
	startServe(t, c)
	caller, err := client.New("unix://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	return caller, path, file
}

func TestServeWithoutItsStoreFile(t *testing.T) {
	caller, path, file := servingStore(t, func(string) {})
	if j, err := caller.Pull(t.Context(), client.PullRequest{Image: storeImage}); err != nil || j.State != puller.StateSucceeded {
		t.Fatalf("the first job: %+v, %v", j, err)
	}
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	const why = "jobs.db was removed or replaced while towline was running"
	if j, err := caller.Submit(t.Context(), client.PullRequest{Image: storeImage}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), why) {
		t.Errorf("a job that would be lost: %+v, %v", j, err)
	}
	if got := get(t, path, "/readyz"); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, why) {
		t.Errorf("/readyz: %s", got)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.HasPrefix(get(t, path, "/readyz"), "200 ") {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it does not recover")
		}
	}
	if j, err := caller.Pull(t.Context(), client.PullRequest{Image: storeImage}); err != nil || j.State != puller.StateSucceeded {
		t.Errorf("with the file again: %+v, %v", j, err)
	}
}

func TestServeWithADamagedStoreFile(t *testing.T) {
	caller, path, file := servingStore(t, func(file string) {
		storetest.WriteOlder(t, filepath.Dir(file))
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, page := range []int64{2, 3, 4, 5, 6, 7, 8} {
			if _, err := f.WriteAt(make([]byte, 4096), page*4096); err != nil {
				t.Fatal(err)
			}
		}
	})
	if aside, err := filepath.Glob(file + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("set aside are %q, %v", aside, err)
	}
	if jobs, _, err := caller.Jobs(t.Context(), puller.Filter{}); err != nil || len(jobs) != 0 {
		t.Errorf("there are %d jobs, %v", len(jobs), err)
	}
	if got := get(t, path, "/readyz"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("/readyz: %s", got)
	}
	if j, err := caller.Pull(t.Context(), client.PullRequest{Image: storeImage}); err != nil || j.State != puller.StateSucceeded {
		t.Errorf("a job: %+v, %v", j, err)
	}
}
