package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// services are n that a Compose file has built, of some bytes each.
func services(n, bytes int) (all []puller.Skipped) {
	for i := range n {
		all = append(all, puller.Skipped{Service: fmt.Sprint("app-", i), Reason: strings.Repeat("x", bytes)})
	}
	return all
}

func TestPrewarmSkippedBounded(t *testing.T) {
	t.Parallel()
	long := services(1, 10)
	long[0].Service = strings.Repeat("a", 256)
	for _, c := range []struct {
		name    string
		skipped []puller.Skipped
		says    string // "" for what is taken
	}{
		{"many services", services(3000, 10), ""},
		{"too many", services(3001, 10), "at most 3000"},
		{"long reasons", services(100, 2500), ""},
		{"too long", services(100, 2700), "at most 262144"},
		{"a long name", long, "longer than 255 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				r := with(puller.PrewarmRequest{}, func(r *puller.PrewarmRequest) { r.Skipped = c.skipped })
				j, err := d.Prewarm(r)
				_, planned := d.Plan(d.Context(), r)
				if c.says == "" {
					if err != nil || planned != nil {
						d.Fatal(err, planned)
					}
					if v := d.end(j); v.State != puller.StateSucceeded || len(v.Images) != len(c.skipped) {
						d.Errorf("it is %s, with %d images", v.State, len(v.Images))
					}
					return
				}
				for _, err := range []error{err, planned} {
					if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "services: ") {
						d.Errorf("it says %v", err)
					}
				}
			})
		})
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	t.Run("of requests", testRetentionOfRequests)
	t.Run("in memory", testRetentionInMemory)
	t.Run("by bytes", testRetentionByBytes)
}

func testRetentionOfRequests(t *testing.T) {
	secret := strings.Repeat("hidden", 100)
	withRunDaemon(t, enginetest.Print("out", "", 0), func(d *daemon) {
		run := d.run(puller.RunRequest{Env: map[string]string{"A": secret}, Cmd: []string{secret}, Entrypoint: []string{secret}, User: secret[:20]})
		d.wantExit(run, 0)
		prewarm, err := d.Prewarm(with(puller.PrewarmRequest{}, func(r *puller.PrewarmRequest) { r.Skipped = []puller.Skipped{{Service: "app", Reason: "built"}} }))
		if err != nil {
			d.Fatal(err)
		}
		d.end(prewarm)
		for range 2 {
			r, err := d.store.Record(run.ID)
			if err != nil || r.Run.Request.Image != good || len(fmt.Sprint(r.Run.Request, r.Job)) > 1000 || strings.Contains(fmt.Sprint(r.Run.Request), "hidden") {
				d.Errorf("%v: the run's record has %+v", err, r.Run)
			}
			r, err = d.store.Record(prewarm.ID)
			if err != nil || len(r.Prewarm.Skipped) > 0 || len(r.Job.Images) != 1 || r.Job.Images[0].Service != "app" {
				d.Errorf("%v: the prewarm's record has %+v, %+v", err, r.Prewarm, r.Job)
			}
			if stdout, _ := d.output(run); stdout != "out" {
				d.Errorf("the output is %q", stdout)
			}
			d.restart()
		}
	})
}

func testRetentionInMemory(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		j := d.pullAlways(good)
		d.succeeded(j, puller.SourcePulled)
		layers := func() (n int) {
			d.readers = map[string]*reader{}
			for _, e := range d.events(j) {
				if e.Type == "layer" {
					n++
				}
			}
			return n
		}
		for i := range 50 {
			if n := layers(); i == 10 && n == 0 {
				d.Error("it has left memory after 10 others")
			}
			p, err := d.Prewarm(with(puller.PrewarmRequest{}, func(r *puller.PrewarmRequest) { r.Skipped = services(100, 2500) }))
			if err != nil {
				d.Fatal(err)
			}
			d.end(p)
		}
		if n := layers(); n != 0 {
			d.Errorf("a late reader gets %d layers", n)
		}
	})
}

func testRetentionByBytes(t *testing.T) {
	o := once
	o.KeepBytes = 1 << 20
	withDaemonOf(t, o, nil, func(d *daemon) {
		for range 60 {
			j, err := d.Prewarm(with(puller.PrewarmRequest{}, func(r *puller.PrewarmRequest) { r.Skipped = services(25, 2500) }))
			if err != nil {
				d.Fatal(err)
			}
			d.end(j)
		}
		<-time.After(time.Second) // less than until the next hour
		d.crash()                 // memory shows more of them
		if n := len(d.listed()); n < 10 || n > 18 {
			d.Errorf("of 60 jobs of some 65 KB, %d are kept", n)
		}
	})
}

func TestPrewarmErrorsBounded(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		long := strings.Repeat("x", 3<<10)
		d.engine.Script(good, fails("manifest unknown: "+long))
		j, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}}})
		if err != nil {
			d.Fatal(err)
		}
		v := d.end(j)
		if e := v.Images[0].Error; e == nil || len(e.Message) > 1<<10+len("…") || e.Kind != puller.ErrNotFound {
			d.Errorf("its error is %+v", e)
		}
		if child := d.end(puller.Job{ID: v.Children[0]}); len(child.Error.Message) < 3<<10 {
			d.Errorf("the child's is %+v", child.Error)
		}
	})
}
