package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// fakeRegistry is a Registry that answers what it is told to.
type fakeRegistry struct {
	mu          sync.Mutex
	digest      string
	err         error
	asked       []string
	credentials puller.Credentials
	own         puller.Credentials
	ownErr      error
	// allows, if not nil, says whom Head answers.
	allows func(puller.Credentials) bool
	// manifests are by image and platform, with a space between them.
	manifests   map[string]puller.Manifest
	manifestErr error
	queries     []puller.ManifestQuery
}

func (r *fakeRegistry) Head(_ context.Context, image string, c puller.Credentials) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.credentials = append(r.asked, image), c
	if r.allows != nil && !r.allows(c) {
		return "", &puller.Error{Op: "ask the registry for", Ref: image, Kind: puller.ErrDenied, Err: errors.New("401 Unauthorized")}
	}
	return r.digest, r.err
}

// Credentials are Towline's own.
func (r *fakeRegistry) Credentials(context.Context, string) (puller.Credentials, error) {
	return r.own, r.ownErr
}

// Repository returns none.
func (r *fakeRegistry) Repository(context.Context, string, puller.Credentials) (puller.Repository, error) {
	return nil, puller.Errorf(puller.ErrNotFound, "it has no repositories")
}

// Manifest knows those of manifests.
func (r *fakeRegistry) Manifest(_ context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queries = append(r.queries, q)
	if r.manifestErr != nil {
		return puller.Manifest{}, r.manifestErr
	}
	if m, ok := r.manifests[q.Image+" "+q.Platform]; ok {
		return m, nil
	}
	return puller.Manifest{}, puller.Errorf(puller.ErrNotFound, "%s: not known", q.Image)
}

func (r *fakeRegistry) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

func refuses(after time.Duration) *fakeRegistry {
	return &fakeRegistry{err: &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: after, Err: errors.New("429")}}
}

var limited = fails("toomanyrequests: slow down")

// cooled returns what a job was told of cool-downs.
func cooled(events []puller.Event) (seconds []float64) {
	for _, e := range events {
		if e.Type == "notice" && strings.Contains(e.Message, "limits the rate") {
			seconds = append(seconds, e.RetryAfterSeconds)
		}
	}
	return seconds
}

func TestRateLimitForms(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]enginetest.Script{
		"as recorded":              enginetest.Replay(transcripts.Load("engine-20.10/rate-limited"), nil),
		"by the containerd store":  fails("failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://registry.test/v2/good/blobs/sha256:abc: You have reached your pull rate limit. You may increase the limit by authenticating"),
		"with a bare number":       fails("unexpected status code 429"),
		"by Docker Hub since 2020": fails("toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"),
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, patient, nil, func(d *daemon) {
				d.attempts(good, script, served())
				j := d.pullAlways(good)
				v := d.succeeded(j, puller.SourcePulled)
				if took := v.FinishedAt.Sub(v.CreatedAt); took != 15*time.Second || v.Attempt != 2 {
					d.Errorf("it took %s and %d attempts", took, v.Attempt)
				}
				if got := cooled(d.events(j)); len(got) != 1 || got[0] != 15 {
					d.Errorf("it was told of cool-downs of %v seconds", got)
				}
			})
		})
	}
}

func TestCoolDown(t *testing.T) {
	t.Parallel()
	t.Run("per registry", testCoolDownPerRegistry)
	t.Run("retry after", testCoolDownRetryAfter)
	t.Run("grows", testCoolDownGrows)
	t.Run("once per burst", testCoolDownOncePerBurst)
	t.Run("notices in order", testCoolDownNoticesInOrder)
	t.Run("holds no slot", testCoolDownHoldsNoSlot)
	t.Run("trial", testCoolDownTrial)
	t.Run("trial served", testCoolDownTrialServed)
	t.Run("per identity", testCoolDownPerIdentity)
}

func testCoolDownPerRegistry(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		const elsewhere = "elsewhere.test/image:v1"
		d.serve(other)
		d.serve(elsewhere)
		d.attempts(good, limited, served())
		first := d.pullAlways(good)
		d.wantPulls(1)
		<-time.After(5 * time.Second)
		late, same, away := d.pullAlways(other), d.pullAlways(good), d.pullAlways(elsewhere)
		if v := d.succeeded(away, puller.SourcePulled); !v.FinishedAt.Equal(v.CreatedAt) {
			d.Errorf("another registry's job took %s", v.FinishedAt.Sub(v.CreatedAt))
		}
		d.inState(late, puller.StateQueued, "")
		d.wantPulls(2)
		for j, seconds := range map[*puller.Job]float64{&first: 15, &late: 10, &same: 10} {
			v := d.succeeded(*j, puller.SourcePulled)
			if took := v.FinishedAt.Sub(first.CreatedAt); took != 15*time.Second {
				d.Errorf("a job for %s ended after %s", v.Image, took)
			}
			if got := cooled(d.events(*j)); len(got) != 1 || got[0] != seconds {
				d.Errorf("a job for %s was told of cool-downs of %v seconds, not %v", v.Image, got, seconds)
			}
		}
		d.wantPulls(4)
	})
}

func testCoolDownRetryAfter(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, 42 * time.Second: 42 * time.Second, 0: 15 * time.Second, time.Hour: 5 * time.Minute,
	} {
		t.Run(asked.String(), func(t *testing.T) {
			registry := refuses(asked)
			o := patient
			o.Registry = registry
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.attempts(good, limited, served())
				secret := credentials(d.T, "hunter2")
				v := d.succeeded(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret}), puller.SourcePulled)
				if took := v.FinishedAt.Sub(v.CreatedAt); took != want {
					d.Errorf("it took %s", took)
				}
				if registry.calls() != 1 || registry.credentials != secret {
					d.Errorf("the registry was asked %d times", registry.calls())
				}
			})
		})
	}
}

func testCoolDownGrows(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Timeout: 24 * time.Hour}, nil, func(d *daemon) {
		// Something of the registry runs all the while, so that it is remembered.
		release := d.hold(other)
		long := d.pullAlways(other)
		defer func() { release(); d.succeeded(long, puller.SourcePulled) }()
		var wants []float64
		scripts := []enginetest.Script{}
		for want := 15.0; len(scripts) < 10; want = min(2*want, 900) {
			wants = append(wants, want)
			scripts = append(scripts, limited)
		}
		d.attempts(good, append(scripts, served(), limited, served())...)
		retries := 20
		request := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &retries}
		j := d.submit(request)
		d.succeeded(j, puller.SourcePulled)
		if got := cooled(d.events(j)); fmt.Sprint(got) != fmt.Sprint(wants) {
			d.Errorf("the cool-downs are %v seconds, not %v", got, wants)
		}
		j = d.submit(request)
		d.succeeded(j, puller.SourceUpToDate)
		if got := cooled(d.events(j)); fmt.Sprint(got) != "[15]" {
			d.Errorf("after a success the cool-downs are %v seconds", got)
		}
	})
}

func TestRateLimitWithoutRetries(t *testing.T) {
	t.Parallel()
	for name, registry := range map[string]puller.Registry{"by its own measure": nil, "as the registry says": refuses(99 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			o := patient
			o.Retries, o.Registry = 0, registry
			want := 15.0
			if registry != nil {
				want = 99
			}
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.attempts(good, limited, served())
				v := d.failed(d.pullAlways(good), puller.ErrRateLimited)
				if v.Error.RetryAfterSeconds != want || !v.FinishedAt.Equal(v.CreatedAt) {
					d.Errorf("the error is %+v after %s", v.Error, v.FinishedAt.Sub(v.CreatedAt))
				}
				// The next one waits: no retries are no licence to go on asking.
				d.succeeded(d.pullAlways(good), puller.SourcePulled)
				if took := time.Since(v.CreatedAt).Seconds(); took != want {
					d.Errorf("the next one came after %v seconds", took)
				}
			})
		})
	}
}

// Jobs that were refused together wait once, not one after the other.
func testCoolDownOncePerBurst(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		began := time.Now()
		var jobs []puller.Job
		for i := range 4 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			d.attempts(image, func(p *enginetest.Pull) { p.Wait(time.Second); limited(p) }, enginetest.Serve(enginetest.NewImage(image, i+1)))
			jobs = append(jobs, d.pullAlways(image))
		}
		for _, j := range jobs {
			d.succeeded(j, puller.SourcePulled)
		}
		if took := time.Since(began); took != 16*time.Second {
			d.Errorf("it took %s", took)
		}
	})
}

// varied asks for another time with each refusal.
type varied struct{ *fakeRegistry }

func (r varied) Head(ctx context.Context, image string, c puller.Credentials) (string, error) {
	_, err := r.fakeRegistry.Head(ctx, image, c)
	limited := *err.(*puller.Error)
	limited.RetryAfter += time.Duration(r.calls()) * 10 * time.Second
	return "", &limited
}

// Of jobs that begin together, one with a notice of the longest cool-down gets no other
// notice after it, and that one only once.
func testCoolDownNoticesInOrder(t *testing.T) {
	o := patient
	o.Concurrency, o.Registry = 8, varied{refuses(10 * time.Second)}
	withDaemonOf(t, o, nil, func(d *daemon) {
		gate := make(chan struct{})
		var jobs []puller.Job
		for i := range 50 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			scripts := []enginetest.Script{enginetest.Serve(enginetest.NewImage(image, i+1))}
			if i < o.Concurrency {
				scripts = append([]enginetest.Script{func(p *enginetest.Pull) { p.Until(gate); limited(p) }}, scripts...)
			}
			d.attempts(image, scripts...)
			jobs = append(jobs, d.pullAlways(image))
		}
		d.wantPulls(o.Concurrency)
		close(gate)
		for _, j := range jobs {
			d.succeeded(j, puller.SourcePulled)
			told := cooled(d.events(j))
			if !slices.IsSorted(told) || len(slices.Compact(slices.Clone(told))) != len(told) || len(told) == 0 || told[len(told)-1] != 90 {
				d.Errorf("a job for %s was told of cool-downs of %v seconds", j.Image, told)
			}
		}
	})
}

func TestRegistryLimit(t *testing.T) {
	t.Parallel()
	o := once
	o.Concurrency, o.PerRegistry = 5, 2
	withDaemonOf(t, o, nil, func(d *daemon) {
		var mu sync.Mutex
		running, most, all, mostAll := map[string]int{}, map[string]int{}, 0, 0
		var jobs []puller.Job
		for i := range 40 {
			host := []string{"registry.test", "registry.test", "registry.test", "one.test", "two.test"}[i%5]
			image := fmt.Sprintf("%s/image%d:v1", host, i)
			ends := enginetest.Serve(enginetest.NewImage(image, i+1))
			d.engine.Script(image, func(p *enginetest.Pull) {
				mu.Lock()
				running[host]++
				all++
				most[host], mostAll = max(most[host], running[host]), max(mostAll, all)
				mu.Unlock()
				p.Wait(time.Second)
				mu.Lock()
				running[host]--
				all--
				mu.Unlock()
				ends(p)
			})
			jobs = append(jobs, d.pullAlways(image))
		}
		for _, j := range jobs {
			d.succeeded(j, puller.SourcePulled)
		}
		if most["registry.test"] != 2 || most["one.test"] != 2 || mostAll != 5 {
			d.Errorf("there ran %v at a time, in all %d", most, mostAll)
		}
	})
}

// A registry that has all it may is no obstacle for those that come after.
func TestRegistryLimitLeavesOthers(t *testing.T) {
	t.Parallel()
	o := once
	o.Concurrency, o.PerRegistry = 3, 2
	withDaemonOf(t, o, nil, func(d *daemon) {
		var releases []func()
		var held []puller.Job
		for i := range 6 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			releases = append(releases, d.hold(image))
			held = append(held, d.submit(puller.PullRequest{Image: image, Policy: puller.PolicyAlways, Priority: puller.PriorityLow}))
		}
		d.wantPulls(2)
		const elsewhere = "elsewhere.test/image:v1"
		d.serve(elsewhere)
		d.succeeded(d.pullAlways(elsewhere), puller.SourcePulled)
		// And a high one goes before the low ones that wait.
		d.serve(good)
		high := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Priority: puller.PriorityHigh})
		d.inState(high, puller.StateQueued, "")
		releases[0]()
		d.succeeded(high, puller.SourcePulled)
		for _, release := range releases[1:] {
			release()
		}
		for _, j := range held {
			d.succeeded(j, puller.SourcePulled)
		}
	})
}

func testCoolDownHoldsNoSlot(t *testing.T) {
	withDaemonOf(t, jobs.Options{Concurrency: 1, Policy: puller.PolicyMissing, Retries: 3, Timeout: time.Hour}, nil, func(d *daemon) {
		d.attempts(good, limited, served())
		first := d.pullAlways(good)
		d.wantPulls(1)
		const elsewhere = "elsewhere.test/image:v1"
		d.serve(elsewhere)
		if v := d.succeeded(d.pullAlways(elsewhere), puller.SourcePulled); !v.FinishedAt.Equal(v.CreatedAt) {
			d.Errorf("it took %s", v.FinishedAt.Sub(v.CreatedAt))
		}
		d.succeeded(first, puller.SourcePulled)
		synctest.Wait()
	})
}

// One header that is wrong does not close a registry for hours: one transfer tries
// it again after a short while. What is said twice is believed.
func testCoolDownTrial(t *testing.T) {
	o := patient
	o.Registry, o.Timeout, o.Retries = refuses(2*time.Hour), 24*time.Hour, 3
	o.Concurrency = 4
	withDaemonOf(t, o, nil, func(d *daemon) {
		refused := func(p *enginetest.Pull) { p.Fail("toomanyrequests: slow down") }
		d.attempts(good, refused, refused, served())
		first := d.pullAlways(good)
		d.wantPulls(1)
		synctest.Wait() // it has been refused
		var others []puller.Job
		for i := range 3 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			d.engine.Script(image, enginetest.Serve(enginetest.NewImage(image, i+1)))
			others = append(others, d.pullAlways(image))
		}
		<-time.After(5*time.Minute + time.Second)
		d.wantPulls(2) // one alone
		for _, j := range append(others, first) {
			v := d.succeeded(j, puller.SourcePulled)
			if took := v.FinishedAt.Sub(v.CreatedAt); took != 2*time.Hour+5*time.Minute {
				d.Errorf("%s took %s", v.Image, took)
			}
		}
		if got := cooled(d.events(first)); fmt.Sprint(got) != "[300 7200]" {
			d.Errorf("it was told of cool-downs of %v seconds", got)
		}
	})
}

// As soon as the one that tries is given something, the others go on.
func testCoolDownTrialServed(t *testing.T) {
	o := jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Retries: 3, Timeout: 24 * time.Hour, Registry: refuses(2 * time.Hour)}
	withDaemonOf(t, o, nil, func(d *daemon) {
		long := d.hold(other) // it runs before, during and after
		runs := d.pullAlways(other)
		d.wantPulls(1)
		d.attempts(good, func(p *enginetest.Pull) { p.Fail("toomanyrequests: slow down") }, func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Wait(time.Second)
			p.Line(`{"status":"Downloading","progressDetail":{"current":300,"total":1000},"id":"aaaaaaaaaaaa"}`)
			p.Wait(30 * time.Second)
			served()(p)
		})
		first := d.pullAlways(good)
		d.wantPulls(2)
		synctest.Wait()
		const next = "registry.test/next:v1"
		d.engine.Script(next, enginetest.Serve(enginetest.NewImage(next, 2)))
		waits := d.succeeded(d.pullAlways(next), puller.SourcePulled)
		if took := waits.FinishedAt.Sub(waits.CreatedAt); took != 5*time.Minute+time.Second {
			d.Errorf("it took %s", took)
		}
		d.succeeded(first, puller.SourcePulled)
		long()
		d.succeeded(runs, puller.SourcePulled)
	})
}

// A rate limit of anonymous callers does not apply to a caller with a login.
func testCoolDownPerIdentity(t *testing.T) {
	o := patient
	o.Timeout = time.Hour
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.attempts(good, limited, served())
		anonymous := d.pullAlways(good)
		d.wantPulls(1)
		synctest.Wait()
		d.serve(other)
		sources := []puller.Source{puller.SourcePulled, puller.SourceUpToDate}
		for n, password := range []string{"hunter2", "hunter3"} {
			v := d.succeeded(d.submit(puller.PullRequest{Image: other, Policy: puller.PolicyAlways, Credentials: credentials(d.T, password)}), sources[n])
			if !v.FinishedAt.Equal(v.CreatedAt) {
				d.Errorf("one with credentials waited for %s", v.FinishedAt.Sub(v.CreatedAt))
			}
		}
		v := d.succeeded(d.pullAlways(other), puller.SourceUpToDate)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != 15*time.Second {
			d.Errorf("another anonymous one waited for %s", took)
		}
		d.succeeded(anonymous, puller.SourcePulled)
	})
}
