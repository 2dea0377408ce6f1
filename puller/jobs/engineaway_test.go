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
func (y *daemon) back(d time.Duration) {
	<-time.After(d)
	y.serve(good)
	y.engine.Revive()
}

const (
	awayNotice = "the engine does not answer; waiting for it (Cannot connect to the Docker daemon at unix:///scripted. Is the docker daemon running?)"
	backNotice = "the engine answers again"
)

func TestEngineKilledAndBack(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.hold(good)
		j := y.always(good)
		y.is(j, puller.StateActive, puller.PhasePulling)
		y.engine.Kill()
		y.back(10 * time.Second)
		v := y.came(j, puller.SourcePulled)
		if took := v.FinishedAt.Sub(v.CreatedAt); v.Attempt != 2 || took > 13*time.Second {
			y.Errorf("it succeeded with attempt %d after %s", v.Attempt, took)
		}
		got := notices(y.events(j))
		if len(got) != 3 || !strings.HasPrefix(got[0], "attempt 1 failed (truncated") || !slices.Equal(got[1:], []string{awayNotice, backNotice}) {
			y.Errorf("the notices are %q", got)
		}
	})
}

func TestEngineAwayAtSubmit(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNewer} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.engine.Kill()
				j := y.submit(puller.PullRequest{Image: good, Policy: policy})
				y.is(j, puller.StateQueued, "")
				y.back(10 * time.Second)
				if v := y.came(j, puller.SourcePulled); v.Attempt != 1 {
					y.Errorf("it succeeded with attempt %d", v.Attempt)
				}
				if got := notices(y.events(j)); !slices.Equal(got, []string{awayNotice, backNotice}) {
					y.Errorf("the notices are %q", got)
				}
			})
		})
	}
}

func TestEngineAwayPolicyNever(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Tag(other, y.serve(other))
		y.engine.Kill()
		absent := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		there := y.submit(puller.PullRequest{Image: other, Policy: puller.PolicyNever})
		y.is(absent, puller.StateQueued, "")
		y.back(10 * time.Second)
		y.failed(absent, puller.ErrNotFound)
		y.came(there, puller.SourcePresent)
		y.pulls(0)

		// Beside one that does pull, it ends and leaves that alone.
		y.engine.Kill()
		absent = y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		missing := y.submit(puller.PullRequest{Image: good})
		y.is(missing, puller.StateQueued, "")
		y.back(10 * time.Second)
		y.failed(absent, puller.ErrNotFound)
		y.came(missing, puller.SourcePulled)
		y.pulls(1)
	})
}

func TestEngineAwayWithoutRetries(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Kill()
		none := 0
		for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever, puller.PolicyNewer} {
			v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: policy, Retries: &none}), puller.ErrEngineUnavailable)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != 0 {
				y.Errorf("%s: it ended after %s", policy, took)
			}
		}
	})
}

func TestEngineNeverBack(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.engine.Kill()
				v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: policy}), puller.ErrEngineUnavailable)
				if took := v.FinishedAt.Sub(v.CreatedAt); took < time.Minute || took > time.Minute+3*time.Second {
					y.Errorf("it ended after %s", took)
				}
			})
		})
	}
}

func TestEngineKilledDuringProof(t *testing.T) {
	for _, c := range []struct {
		policy puller.Policy
		source puller.Source // what is proven of it
		pulls  int
	}{{puller.PolicyMissing, puller.SourcePresent, 1}, {puller.PolicyAlways, puller.SourcePulled, 2}} {
		t.Run(string(c.policy), func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(y *daemon) {
				y.serve(good)
				verifying := make(chan struct{})
				var seen bool
				y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
					if y.engine.Counts().Pulls == 1 && !seen {
						seen = true
						close(verifying)
						<-gone
					}
					return 0, ""
				})
				j := y.submit(puller.PullRequest{Image: good, Policy: c.policy})
				<-verifying
				y.is(j, puller.StateActive, puller.PhaseVerifying)
				y.engine.Kill()
				y.back(10 * time.Second)
				y.came(j, c.source)
				y.pulls(c.pulls)
			})
		})
	}
}

func TestEngineSilent(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Freeze()
		began := time.Now()
		if info, err := y.Engine(y.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable || info.Reachable {
			y.Errorf("the engine is %+v, %v", info, err)
		}
		if took := time.Since(began); took != 30*time.Second {
			y.Errorf("it took %s to say so", took)
		}
		none := 0
		for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever} {
			v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: policy, Retries: &none}), puller.ErrEngineUnavailable)
			if took := v.FinishedAt.Sub(v.CreatedAt); took < 30*time.Second || took > 31*time.Second {
				y.Errorf("%s: it ended after %s", policy, took)
			}
		}
		// Those who wait for it call again at most when a call has had its time.
		v := y.failed(y.always(good), puller.ErrEngineUnavailable)
		if took := v.FinishedAt.Sub(v.CreatedAt); took < time.Minute || took > 2*time.Minute {
			y.Errorf("with retries it ended after %s", took)
		}
		j := y.always(good)
		y.back(45 * time.Second)
		y.came(j, puller.SourcePulled)
	})
}

// Only the pull hangs: what the engine is asked before it, it answers.
func TestEngineFreezesDuringPull(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			y.engine.Freeze()
			silence(p)
		})
		j := y.always(good)
		y.back(100 * time.Second)
		if v := y.came(j, puller.SourcePulled); v.Attempt != 2 {
			y.Errorf("it succeeded with attempt %d", v.Attempt)
		}
	})
}

func TestEngineBackWithOtherAPIVersion(t *testing.T) {
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
				withDaemonOf(t, patient, nil, func(y *daemon) {
					y.engine.SetAPI(c.before[0], c.before[1])
					y.serve(other)
					y.came(y.always(other), puller.SourcePulled)
					version := func(n int) {
						y.Helper()
						want := map[int]string{41: "1.41", 51: "1.51", 52: "1.51"}[n] // the SDK's newest
						if info, err := y.Engine(y.Context()); err != nil || info.APIVersion != want {
							y.Errorf("the engine is %+v, %v", info, err)
						}
					}
					version(c.before[0])
					var j puller.Job
					if pulling {
						y.hold(good)
						j = y.always(good)
						y.is(j, puller.StateActive, puller.PhasePulling)
					}
					y.engine.Kill()
					<-time.After(time.Second)
					y.engine.SetAPI(c.after[0], c.after[1])
					y.back(9 * time.Second)
					if !pulling {
						j = y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: new(int)})
					}
					y.came(j, puller.SourcePulled)
					version(c.after[0])
				})
			})
		}
	}
}

func TestEngineAwayNotice(t *testing.T) {
	withDaemonOf(t, patient, nil, func(y *daemon) {
		y.engine.Kill()
		j := y.always(good)
		for range 5 {
			<-time.After(time.Second)
			began := time.Now()
			if info, err := y.Engine(y.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable || info.Reachable || !time.Now().Equal(began) {
				y.Errorf("the engine is %+v, %v, after %s", info, err, time.Since(began))
			}
		}
		y.back(time.Second)
		if info, err := y.Engine(y.Context()); err != nil || !info.Reachable {
			y.Errorf("the engine is %+v, %v", info, err)
		}
		y.came(j, puller.SourcePulled)
		synctest.Wait()
	})
}
