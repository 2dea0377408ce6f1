package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// fill takes all the space of a file system, to the last byte; free gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

func TestStateOnAFullDisk(t *testing.T) {
	t.Parallel()
	lab.Need(t, site.err)
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), syscall.Mount("tmpfs", state, "tmpfs", 0, "size=8m")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRigIn(t, site.engine, dir, lab.TowlineOptions{})
	image := r.push("full", 1, 4<<20)
	release := r.hold(1 << 20)
	id, last, _ := r.follow(image.ref)
	r.pulling(id)
	waits := make(chan int, 1)
	go func() {
		status, _ := r.wait(image.ref, 0)
		waits <- status
	}()
	r.until("the job of who waits is accepted", func(ctx context.Context) error {
		jobs, _, err := r.client.Jobs(ctx, puller.Filter{})
		if err == nil && len(jobs) < 2 {
			err = fmt.Errorf("there are %d jobs", len(jobs))
		}
		return err
	})
	free := fill(t, state)

	// What the file has already is still of use, so not every job is refused at once.
	ids := []string{id}
	r.until("new jobs are refused", func(ctx context.Context) error {
		job, err := r.client.Submit(ctx, client.PullRequest{Image: image.ref})
		switch {
		case err == nil:
			ids = append(ids, job.ID)
			return fmt.Errorf("%s was accepted", job.ID)
		case puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), state):
			t.Errorf("refused: %v", err)
		}
		return nil
	})
	refusals := 0
	r.until("the daemon has said for some seconds that it is not ready", func(context.Context) error {
		status, detail := r.readiness()
		if status != http.StatusServiceUnavailable || !strings.Contains(detail, "no space left on device") {
			t.Fatalf("/readyz is %d %s", status, detail)
		}
		if refusals++; refusals < 100 {
			return fmt.Errorf("%d times", refusals)
		}
		return nil
	})
	release()
	if e := r.end(last); e.Result != nil && e.Result.State != puller.StateSucceeded {
		t.Errorf("%+v", e.Result)
	}
	if status := <-waits; status != http.StatusOK {
		t.Errorf("who waited is told %d", status)
	}
	ended := map[string]string{}
	for _, id := range ids {
		text, _ := json.Marshal(r.succeeds(id, image))
		ended[id] = string(text)
	}
	if page, _, err := r.client.Jobs(t.Context(), puller.Filter{}); err != nil || len(page) < len(ids) {
		t.Errorf("%d jobs are listed: %v", len(page), err)
	}

	free()
	r.until("the daemon is ready", func(context.Context) error {
		if status, detail := r.readiness(); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, detail)
		}
		return nil
	})
	id = r.submit(image.ref, 0).ID
	text, _ := json.Marshal(r.succeeds(id, image))
	ended[id] = string(text)
	r.towline.Kill()
	r.start()
	for id, before := range ended {
		if after, _ := json.Marshal(r.job(id)); string(after) != before {
			t.Errorf("it is not as it was\n%s\n%s", before, after)
		}
	}
}

// readiness is what /readyz says.
func (r *rig) readiness() (status int, detail string) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	resp, err := r.towline.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestStateThatAnotherDaemonUsesIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	image := r.push("two", 1, 64<<10)
	config, err := os.ReadFile(filepath.Join(r.dir, "towline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(r.dir, "second.yaml")
	other := strings.ReplaceAll(string(config), "towline.sock", "second.sock")
	if err := os.WriteFile(second, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	code, said := r.run("serve", "--config", second)
	if code == 0 || !strings.Contains(said, filepath.Join(r.dir, "state")) || !strings.Contains(said, fmt.Sprintf("another towline (pid %d) uses it", r.towline.Pid)) {
		t.Errorf("exit code %d: %s", code, said)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, "second.sock")); err == nil {
		t.Error("the second one has listened")
	}
	r.succeeds(r.submit(image.ref, 0).ID, image)
}

func TestStateThatIsDamagedIsSetAsideAndTold(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string, size int64) error{
		"overwritten": func(path string, size int64) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			// From behind the headers on, as far as anything can be.
			_, err = f.WriteAt([]byte(strings.Repeat("towline ", 1<<12)), 2*int64(os.Getpagesize()))
			return errors.Join(err, f.Close())
		},
		"cut off": func(path string, size int64) error { return os.Truncate(path, int64(os.Getpagesize())*3/2) },
		"emptied": func(path string, size int64) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			image := r.push("damaged", 1, 64<<10)
			r.succeeds(r.submit(image.ref, 0).ID, image)
			r.towline.Kill()
			path := filepath.Join(r.dir, "state", "jobs.db")
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, info.Size()); err != nil {
				t.Fatal(err)
			}
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r.start()
			aside, _ := filepath.Glob(path + ".damaged-*")
			if len(aside) != 1 || !strings.Contains(r.towline.Log(), aside[0]) {
				t.Fatalf("set aside are %s, the log:\n%s", aside, r.towline.Log())
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !slices.Equal(kept, was) {
				t.Errorf("what was set aside is not what it was: %v", err)
			}
			id := r.submit(image.ref, 0).ID
			r.succeeds(id, image)
			r.towline.Kill()
			r.start()
			r.succeeds(id, image)
		})
	}
}
