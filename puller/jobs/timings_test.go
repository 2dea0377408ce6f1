package jobs_test

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestTimings(t *testing.T) {
	withDaemonOf(t, single, nil, func(y *daemon) {
		verify := make(chan struct{})
		y.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
			if y.engine.Counts().Pulls > 0 {
				<-time.After(4 * time.Second)
			}
			return 0, ""
		})
		defer close(verify)
		y.engine.Script(good, func(p *enginetest.Pull) {
			p.Wait(2 * time.Second)
			p.Line(line(layerA, "Downloading", 300, 1000))
			p.Wait(3 * time.Second)
			served()(p)
		})
		j := y.always(good)
		y.is(j, puller.StateActive, puller.PhaseResolving)
		if v := y.now(j).Timings; v == nil || v.FirstByte != 0 || v.Stream != 0 || v.Verify != 0 {
			y.Errorf("while resolving the timings are %+v", v)
		}
		queued := y.always(other)
		if v := y.now(queued); v.State != puller.StateQueued || v.Timings != nil {
			y.Errorf("while queued the timings are %+v", v.Timings)
		}
		if _, err := y.Cancel(queued.ID); err != nil {
			y.Error(err)
		}
		<-time.After(2 * time.Second)
		y.is(j, puller.StateActive, puller.PhasePulling)
		if v := y.now(j).Timings; v.FirstByte != 2 || v.Stream != 0 || v.Verify != 0 {
			y.Errorf("while pulling the timings are %+v", v)
		}
		<-time.After(3 * time.Second)
		y.is(j, puller.StateActive, puller.PhaseVerifying)
		if v := y.now(j).Timings; v.Stream != 3 || v.Verify != 0 {
			y.Errorf("while verifying the timings are %+v", v)
		}
		v := y.came(j, puller.SourcePulled)
		want := puller.Timings{Connection: puller.Connection{Reused: true}, FirstByte: 2, Stream: 3, Verify: 4}
		if *v.Timings != want {
			y.Errorf("in the end the timings are %+v, not %+v", *v.Timings, want)
		}
	})
}

func TestTimingsOfLastAttempt(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.attempts(good, func(p *enginetest.Pull) { p.Wait(5 * time.Second); cut(p) }, func(p *enginetest.Pull) {
			p.Wait(time.Second)
			served()(p)
		})
		v := y.came(y.always(good), puller.SourcePulled)
		if v.Timings.FirstByte != 1 || v.Attempt != 2 {
			y.Errorf("the timings of attempt %d are %+v", v.Attempt, v.Timings)
		}
	})
}

func TestTimingsNoneIfPresent(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.engine.Tag(good, enginetest.NewImage(good, 1))
		if v := y.came(y.submit(puller.PullRequest{Image: good}), puller.SourcePresent); v.Timings != nil {
			y.Errorf("they are %+v", v.Timings)
		}
	})
}
