package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestTimings(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, single, nil, func(d *daemon) {
		verify := make(chan struct{})
		d.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
			if d.engine.Counts().Pulls > 0 {
				<-time.After(4 * time.Second)
			}
			return 0, ""
		})
		defer close(verify)
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Wait(2 * time.Second)
			p.Line(line(layerA, "Downloading", 300, 1000))
			p.Wait(3 * time.Second)
			served()(p)
		})
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhaseResolving)
		if v := d.settled(j).Timings; v == nil || v.FirstByte != 0 || v.Stream != 0 || v.Verify != 0 {
			d.Errorf("while resolving the timings are %+v", v)
		}
		queued := d.pullAlways(other)
		if v := d.settled(queued); v.State != puller.StateQueued || v.Timings != nil {
			d.Errorf("while queued the timings are %+v", v.Timings)
		}
		if _, err := d.Cancel(queued.ID); err != nil {
			d.Error(err)
		}
		<-time.After(2 * time.Second)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		if v := d.settled(j).Timings; v.FirstByte != 2 || v.Stream != 0 || v.Verify != 0 {
			d.Errorf("while pulling the timings are %+v", v)
		}
		<-time.After(3 * time.Second)
		d.inState(j, puller.StateActive, puller.PhaseVerifying)
		if v := d.settled(j).Timings; v.Stream != 3 || v.Verify != 0 {
			d.Errorf("while verifying the timings are %+v", v)
		}
		v := d.succeeded(j, puller.SourcePulled)
		want := puller.Timings{Connection: puller.Connection{Reused: true}, FirstByte: 2, Stream: 3, Verify: 4}
		if *v.Timings != want {
			d.Errorf("in the end the timings are %+v, not %+v", *v.Timings, want)
		}
	})
}

func TestTimingsOfLastAttempt(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.attempts(good, func(p *enginetest.Pull) { p.Wait(5 * time.Second); cut(p) }, func(p *enginetest.Pull) {
			p.Wait(time.Second)
			served()(p)
		})
		v := d.succeeded(d.pullAlways(good), puller.SourcePulled)
		if v.Timings.FirstByte != 1 || v.Attempt != 2 {
			d.Errorf("the timings of attempt %d are %+v", v.Attempt, v.Timings)
		}
	})
}

func TestTimingsNoneIfPresent(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.engine.Tag(good, enginetest.NewImage(good, 1))
		if v := d.succeeded(d.submit(puller.PullRequest{Image: good}), puller.SourcePresent); v.Timings != nil {
			d.Errorf("they are %+v", v.Timings)
		}
	})
}
