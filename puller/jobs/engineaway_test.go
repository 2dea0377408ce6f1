package jobs_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// back brings the engine back after d of time, serving good.
func (d *daemon) back(after time.Duration) {
	<-time.After(after)
	d.serve(good)
	d.engine.Revive()
}

const (
	awayNotice = "the engine does not answer; waiting for it (Cannot connect to the Docker daemon at unix:///scripted. Is the docker daemon running?)"
	backNotice = "the engine answers again"
)

func TestEngineAway(t *testing.T) {
	t.Parallel()
	t.Run("killed and back", testEngineKilledAndBack)
	t.Run("at submit", testEngineAwayAtSubmit)
	t.Run("policy never", testEngineAwayPolicyNever)
	t.Run("without retries", testEngineAwayWithoutRetries)
	t.Run("never back", testEngineNeverBack)
	t.Run("time is up", testEngineAwayTimeIsUp)
	t.Run("killed during proof", testEngineKilledDuringProof)
	t.Run("silent", testEngineSilent)
	t.Run("freezes during pull", testEngineFreezesDuringPull)
	t.Run("back with other API version", testEngineBackWithOtherAPIVersion)
	t.Run("notice", testEngineAwayNotice)
}

func testEngineKilledAndBack(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.hold(good)
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.engine.Kill()
		d.back(10 * time.Second)
		v := d.succeeded(j, puller.SourcePulled)
		if took := v.FinishedAt.Sub(v.CreatedAt); v.Attempt != 2 || took > 13*time.Second {
			d.Errorf("it succeeded with attempt %d after %s", v.Attempt, took)
		}
		got := notices(d.events(j))
		if len(got) != 3 || !strings.HasPrefix(got[0], "attempt 1 failed (truncated") || !slices.Equal(got[1:], []string{awayNotice, backNotice}) {
			d.Errorf("the notices are %q", got)
		}
	})
}

func testEngineAwayAtSubmit(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNewer} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.engine.Kill()
				j := d.submit(puller.PullRequest{Image: good, Policy: policy})
				d.inState(j, puller.StateQueued, "")
				d.back(10 * time.Second)
				if v := d.succeeded(j, puller.SourcePulled); v.Attempt != 1 {
					d.Errorf("it succeeded with attempt %d", v.Attempt)
				}
				if got := notices(d.events(j)); !slices.Equal(got, []string{awayNotice, backNotice}) {
					d.Errorf("the notices are %q", got)
				}
			})
		})
	}
}

func testEngineAwayPolicyNever(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Tag(other, d.serve(other))
		d.engine.Kill()
		absent := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		there := d.submit(puller.PullRequest{Image: other, Policy: puller.PolicyNever})
		d.inState(absent, puller.StateQueued, "")
		d.back(10 * time.Second)
		d.failed(absent, puller.ErrNotFound)
		d.succeeded(there, puller.SourcePresent)
		d.wantPulls(0)

		// Beside one that does pull, it ends and leaves that alone.
		d.engine.Kill()
		absent = d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		missing := d.submit(puller.PullRequest{Image: good})
		d.inState(missing, puller.StateQueued, "")
		d.back(10 * time.Second)
		d.failed(absent, puller.ErrNotFound)
		d.succeeded(missing, puller.SourcePulled)
		d.wantPulls(1)
	})
}

func testEngineAwayWithoutRetries(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Kill()
		none := 0
		for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever, puller.PolicyNewer} {
			v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy, Retries: &none}), puller.ErrEngineUnavailable)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != 0 {
				d.Errorf("%s: it ended after %s", policy, took)
			}
		}
	})
}

func testEngineNeverBack(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.engine.Kill()
				v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy}), puller.ErrEngineUnavailable)
				if took := v.FinishedAt.Sub(v.CreatedAt); took < time.Minute || took > time.Minute+3*time.Second {
					d.Errorf("it ended after %s", took)
				}
			})
		})
	}
}

func testEngineAwayTimeIsUp(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Kill()
		v := d.failed(d.submit(puller.PullRequest{Image: good, Timeout: puller.Duration(3 * time.Second)}), puller.ErrTimeout)
		if !strings.Contains(v.Error.Message, "Cannot connect to the Docker daemon at unix:///scripted") {
			d.Errorf("the error does not name the engine: %s", v.Error.Message)
		}
	})
}

func testEngineKilledDuringProof(t *testing.T) {
	for _, c := range []struct {
		policy puller.Policy
		source puller.Source // what is proven of it
		pulls  int
	}{{puller.PolicyMissing, puller.SourcePresent, 1}, {puller.PolicyAlways, puller.SourcePulled, 2}} {
		t.Run(string(c.policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.serve(good)
				verifying := make(chan struct{})
				var seen bool
				d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
					if d.engine.Counts().Pulls == 1 && !seen {
						seen = true
						close(verifying)
						<-gone
					}
					return 0, ""
				})
				j := d.submit(puller.PullRequest{Image: good, Policy: c.policy})
				<-verifying
				d.inState(j, puller.StateActive, puller.PhaseVerifying)
				d.engine.Kill()
				d.back(10 * time.Second)
				d.succeeded(j, c.source)
				d.wantPulls(c.pulls)
			})
		})
	}
}

func testEngineSilent(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Freeze()
		began := time.Now()
		if info, err := d.Engine(d.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable || info.Reachable {
			d.Errorf("the engine is %+v, %v", info, err)
		}
		if took := time.Since(began); took != 30*time.Second {
			d.Errorf("it took %s to say so", took)
		}
		none := 0
		for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever} {
			v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy, Retries: &none}), puller.ErrEngineUnavailable)
			if took := v.FinishedAt.Sub(v.CreatedAt); took < 30*time.Second || took > 31*time.Second {
				d.Errorf("%s: it ended after %s", policy, took)
			}
		}
		// Those who wait for it call again at most when a call has had its time.
		v := d.failed(d.pullAlways(good), puller.ErrEngineUnavailable)
		if took := v.FinishedAt.Sub(v.CreatedAt); took < time.Minute || took > 2*time.Minute {
			d.Errorf("with retries it ended after %s", took)
		}
		j := d.pullAlways(good)
		d.back(45 * time.Second)
		d.succeeded(j, puller.SourcePulled)
	})
}

// Only the pull hangs: what the engine is asked before it, it answers.
func testEngineFreezesDuringPull(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			d.engine.Freeze()
			silence(p)
		})
		j := d.pullAlways(good)
		d.back(100 * time.Second)
		if v := d.succeeded(j, puller.SourcePulled); v.Attempt != 2 {
			d.Errorf("it succeeded with attempt %d", v.Attempt)
		}
	})
}

func testEngineBackWithOtherAPIVersion(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after [2]int
	}{
		{"newer, and the old one is gone", [2]int{41, 12}, [2]int{52, 44}},
		{"older", [2]int{51, 44}, [2]int{41, 12}},
	} {
		for _, pulling := range []bool{true, false} {
			name := c.name + ", while idle"
			if pulling {
				name = c.name + ", during a pull"
			}
			t.Run(name, func(t *testing.T) {
				withDaemonOf(t, patient, nil, func(d *daemon) {
					d.engine.SetAPI(c.before[0], c.before[1])
					d.serve(other)
					d.succeeded(d.pullAlways(other), puller.SourcePulled)
					version := func(n int) {
						d.Helper()
						want := map[int]string{41: "1.41", 51: "1.51", 52: "1.51"}[n] // the SDK's newest
						if info, err := d.Engine(d.Context()); err != nil || info.APIVersion != want {
							d.Errorf("the engine is %+v, %v", info, err)
						}
					}
					version(c.before[0])
					var j puller.Job
					if pulling {
						d.hold(good)
						j = d.pullAlways(good)
						d.inState(j, puller.StateActive, puller.PhasePulling)
					}
					d.engine.Kill()
					<-time.After(time.Second)
					d.engine.SetAPI(c.after[0], c.after[1])
					d.back(9 * time.Second)
					if !pulling {
						j = d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: new(int)})
					}
					d.succeeded(j, puller.SourcePulled)
					version(c.after[0])
				})
			})
		}
	}
}

func testEngineAwayNotice(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Kill()
		j := d.pullAlways(good)
		for range 5 {
			<-time.After(time.Second)
			began := time.Now()
			if info, err := d.Engine(d.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable || info.Reachable || !time.Now().Equal(began) {
				d.Errorf("the engine is %+v, %v, after %s", info, err, time.Since(began))
			}
		}
		d.back(time.Second)
		if info, err := d.Engine(d.Context()); err != nil || !info.Reachable {
			d.Errorf("the engine is %+v, %v", info, err)
		}
		d.succeeded(j, puller.SourcePulled)
		synctest.Wait()
	})
}
