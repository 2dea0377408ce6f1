package jobs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// page is some 500 KB of output.
var page = strings.Repeat(strings.Repeat("x", 1023)+"\n", 500)

// withOutputDaemon runs a test with so many bytes kept of what programs print, and tells
// it where.
func withOutputDaemon(t *testing.T, total int64, p enginetest.Program, test func(d *daemon, dir *string)) {
	t.Helper()
	o := running
	o.OutputTotal = total
	withDaemonOf(t, o, nil, func(d *daemon) {
		var dir string
		d.change = func(o *jobs.Options) { dir = o.OutputDir }
		d.restart()
		d.engine.Program(d.serve(good).ID, p)
		test(d, &dir)
	})
}

func outputSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return size
}

func TestOutput(t *testing.T) {
	t.Parallel()
	t.Run("newest kept", testOutputNewestKept)
	t.Run("bound lowered", testOutputBoundLowered)
	t.Run("of active runs", testOutputOfActiveRuns)
}

func testOutputNewestKept(t *testing.T) {
	const total = 1700 << 10
	withOutputDaemon(t, total, enginetest.Print(page, "", 0), func(d *daemon, dir *string) {
		silent := d.submitted(other) // a job that prints nothing
		var jobs []puller.Job
		for range 6 {
			j := d.run(puller.RunRequest{})
			d.wantExit(j, 0)
			jobs = append(jobs, j)
			if n := outputSize(d.T, *dir); n > total {
				d.Errorf("there are %d bytes of output", n)
			}
		}
		for _, when := range []string{"at first", "after a restart", "after another"} {
			listed, _, err := d.Jobs(puller.Filter{Kind: puller.JobRun})
			if err != nil || len(listed) != len(jobs) {
				d.Fatal(len(listed), err)
			}
			for i, j := range jobs {
				lost := i < 3
				d.readers = map[string]*reader{}
				events := d.events(j)
				stdout, _ := printed(d, events)
				missed := strings.Count(remarks(events), "not kept any more")
				v, inList := d.end(j), listed[len(jobs)-1-i]
				if lost != (stdout != page) || lost != (missed == 1) || lost != v.Result.Truncated || lost != inList.Result.Truncated {
					d.Errorf("%s: run %d prints %d bytes, %d times it is told that some is missing, truncated is %t, in the list %t",
						when, i, len(stdout), missed, v.Result.Truncated, inList.Result.Truncated)
				}
			}
			if v := d.end(silent); v.State == puller.StateSucceeded && v.Result.Truncated {
				d.Errorf("%s: %+v", when, v.Result)
			}
			d.restart()
		}
	})
}

func testOutputBoundLowered(t *testing.T) {
	withOutputDaemon(t, 0, enginetest.Print(page, "", 0), func(d *daemon, dir *string) {
		for range 3 {
			d.wantExit(d.run(puller.RunRequest{}), 0)
		}
		change := d.change
		d.change = func(o *jobs.Options) { change(o); o.OutputTotal = 600 << 10 }
		d.restart()
		synctest.Wait()
		if n := outputSize(d.T, *dir); n > 600<<10 || n < 500<<10 {
			d.Errorf("there are %d bytes of output", n)
		}
	})
}

func testOutputOfActiveRuns(t *testing.T) {
	const total = 900 << 10
	withOutputDaemon(t, total, func(p *enginetest.Process) int {
		p.Stdout().Write([]byte(page))
		if len(p.Requested.Cmd) > 0 {
			<-p.Killed()
		}
		return 0
	}, func(d *daemon, dir *string) {
		old := d.run(puller.RunRequest{})
		d.wantExit(old, 0)
		var jobs []puller.Job
		for range 2 {
			jobs = append(jobs, d.run(puller.RunRequest{Cmd: []string{"stay"}}))
			d.inState(jobs[len(jobs)-1], puller.StateActive, puller.PhaseRunning)
		}
		full := func(when string) {
			d.Helper()
			synctest.Wait()
			_, err := d.Service.Run(puller.RunRequest{Image: good})
			if puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "at most 921600 are kept") {
				d.Errorf("%s: %v", when, err)
			}
		}
		full("at first")
		if v := d.end(old); !v.Result.Truncated {
			d.Error("the output of the one that ended was kept")
		}
		d.succeeded(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways}), puller.SourceUpToDate)
		d.restart()
		full("after a restart")
		for _, j := range jobs {
			d.Cancel(j.ID)
			d.failed(j, puller.ErrCanceled)
		}
		last := d.run(puller.RunRequest{})
		if v := d.wantExit(last, 0); v.Result.Truncated {
			d.Error("the last one's was not kept")
		}
		if n := outputSize(d.T, *dir); n > total {
			d.Errorf("there are %d bytes", n)
		}
	})
}
