package jobs_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestFailure(t *testing.T) {
	t.Parallel()
	t.Run("kinds", testFailureKinds)
	t.Run("endless line", testFailureEndlessLine)
	t.Run("engine gone", testFailureEngineGone)
}

func testFailureKinds(t *testing.T) {
	const progress = `{"status":"Downloading","progressDetail":{"current":1,"total":9},"id":"aaaaaaaaaaaa"}`
	lines := func(lines ...string) enginetest.Script {
		return func(p *enginetest.Pull) {
			for _, l := range lines {
				p.Line(l)
			}
			p.Tag(enginetest.NewImage(good, 1)) // which changes nothing
		}
	}
	for _, c := range []struct {
		name    string
		script  enginetest.Script
		kind    puller.ErrorKind
		message string // has this in it
	}{
		{"errorDetail alone", lines(progress, `{"errorDetail":{"message":"no space left on device"}}`), puller.ErrNoSpace, "no space left"},
		{"error alone", lines(`{"error":"unauthorized"}`), puller.ErrDenied, "unauthorized"},
		{"both, of which errorDetail counts", lines(`{"errorDetail":{"message":"toomanyrequests"},"error":"unauthorized"}`), puller.ErrRateLimited, "toomanyrequests"},
		{"an error without words", lines(`{"errorDetail":{}}`), puller.ErrInternal, "without saying which"},
		{"lines after the error", lines(`{"error":"manifest unknown"}`, progress, `{"status":"Status: Downloaded newer image"}`), puller.ErrNotFound, "manifest unknown"},
		{"two errors, of which the first counts", lines(`{"error":"manifest unknown"}`, `{"error":"unauthorized"}`), puller.ErrNotFound, "manifest unknown"},
		{"cut after the error", func(p *enginetest.Pull) { p.Fail("manifest unknown"); p.Cut() }, puller.ErrNotFound, "manifest unknown"},
		{"garbage after the error", lines(`{"error":"manifest unknown"}`, `<html>`), puller.ErrNotFound, "manifest unknown"},
		{"cut", func(p *enginetest.Pull) { p.Line(progress); p.Cut() }, puller.ErrTruncated, "cut"},
		{"cut inside a line", func(p *enginetest.Pull) { p.Raw(progress[:20]); p.Cut() }, puller.ErrTruncated, "cut"},
		{"a clean end inside a line", func(p *enginetest.Pull) { p.Raw(progress[:20]) }, puller.ErrTruncated, "cut"},
		{"garbage", lines(progress, `<html>bad gateway</html>`, progress), puller.ErrTruncated, "line 2"},
		{"a line that is no object", lines(`["x"]`), puller.ErrTruncated, "line 1"},
		{"refused before the stream", func(p *enginetest.Pull) {
			p.Refuse(http.StatusInternalServerError, "toomanyrequests: slow down")
		}, puller.ErrRateLimited, "slow down"},
		{"refused with a page", func(p *enginetest.Pull) { p.Refuse(http.StatusTeapot, "short and stout") }, puller.ErrInternal, "stout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.engine.Script(good, c.script)
				j := d.pullAlways(good)
				v := d.failed(j, c.kind)
				if !strings.Contains(v.Error.Message, c.message) || !strings.Contains(v.Error.Message, good) {
					d.Errorf("the message is %q", v.Error.Message)
				}
				got := numbered(d.events(j))
				if n := len(got); !slices.Equal(got[n-2:], []string{"state failed", "result"}) {
					d.Errorf("the numbered events are %q", got)
				}
				// The next one is none the worse for it.
				d.wantPulls(1)
				d.engine.Remove(good)
				d.serve(good)
				d.succeeded(d.pullAlways(good), puller.SourcePulled)
			})
		})
	}
}

func testFailureEndlessLine(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		const piece = 64 << 10
		sent := 0
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Raw(`{"status":"`)
			for ; sent < 64<<20; sent += piece {
				select {
				case <-p.Gone():
					return
				default:
					p.Raw(strings.Repeat("x", piece))
				}
			}
		})
		d.failed(d.pullAlways(good), puller.ErrTruncated)
		d.wantAborted(1)
		if sent > 4<<20 {
			d.Errorf("%d bytes of one line were read", sent)
		}
	})
}

func testFailureEngineGone(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.hold(good)
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.engine.Kill()
		d.failed(j, puller.ErrTruncated)
		for _, policy := range []puller.Policy{puller.PolicyAlways, puller.PolicyMissing, puller.PolicyNever} {
			d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy}), puller.ErrEngineUnavailable)
		}
		if info, err := d.Engine(d.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable || info.Reachable {
			d.Errorf("the engine is %+v, %v", info, err)
		}

		d.engine.Revive()
		d.engine.Script(good, func(p *enginetest.Pull) { <-p.Gone() })
		j = d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhaseResolving)
		d.engine.Kill()
		d.failed(j, puller.ErrEngineUnavailable)

		d.engine.Revive()
		d.serve(good)
		d.succeeded(d.pullAlways(good), puller.SourcePulled)
		if info, err := d.Engine(d.Context()); err != nil || !info.Reachable {
			d.Errorf("the engine is %+v, %v", info, err)
		}
	})
}

// notices returns the messages of a job's notices.
func notices(events []puller.Event) []string {
	var all []string
	for _, e := range events {
		if e.Type == "notice" {
			all = append(all, e.Message)
		}
	}
	return all
}

func TestEngineWarningsAsNotices(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		served := enginetest.Serve(enginetest.NewImage(good, 1))
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Wait(time.Second) // until both jobs are part of it: one that joins is not told what was said before
			p.Line(`{"status":"Pulling from good","id":"v1"}`)
			p.Line(warning(1))
			for range 2 {
				p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":9},"id":"aaaaaaaaaaaa"}`)
				for _, left := range []string{"3", "2", "1"} {
					p.Line(`{"status":"Retrying in ` + left + ` seconds","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
					p.Wait(time.Second)
				}
			}
			served(p)
		})
		a, b := d.pullAlways(good), d.pullAlways(good)
		d.succeeded(a, puller.SourcePulled)
		const retry = "the engine tries layer aaaaaaaaaaaa again in 3 seconds"
		for _, j := range []puller.Job{a, b} {
			if got := notices(d.events(j)); !slices.Equal(got, []string{"WARNING: number 1", retry, retry}) {
				d.Errorf("the notices are %q", got)
			}
		}
	})
}

func TestEngineNoticesBounded(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			for i := range 150 {
				p.Line(warning(i))
			}
			p.Fail("denied: enough")
		})
		j := d.pullAlways(good)
		d.failed(j, puller.ErrDenied)
		events := d.events(j)
		got := notices(events)
		if len(got) != 100 || got[98] != "WARNING: number 98" || !strings.Contains(got[99], "left out") {
			d.Errorf("there are %d notices, the last %q", len(got), got[len(got)-1])
		}
		if last := events[len(events)-1]; last.Type != "result" {
			d.Errorf("the last event is a %s", last.Type)
		}
	})
}
