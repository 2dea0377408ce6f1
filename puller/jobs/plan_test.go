package jobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

// catalog is a Registry that knows what images are made of.
type catalog struct {
	mu        sync.Mutex
	manifests map[string]puller.Manifest
	errs      map[string]error // of both calls
	took      time.Duration    // what a call takes
	heads     []string
	queries   []puller.ManifestQuery
	running   int
	most      int
}

func (c *catalog) Head(ctx context.Context, image string, cred puller.Credentials) (string, error) {
	m, err := c.answer(ctx, image, func() { c.heads = append(c.heads, image) })
	return m.Digest, err
}

func (c *catalog) Credentials(context.Context, string) (puller.Credentials, error) {
	return puller.Credentials{}, nil
}

func (c *catalog) Repository(context.Context, string, puller.Credentials) (puller.Repository, error) {
	return nil, puller.Errorf(puller.ErrNotFound, "it has no repositories")
}

func (c *catalog) Manifest(ctx context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	return c.answer(ctx, q.Image, func() { c.queries = append(c.queries, q) })
}

func (c *catalog) answer(ctx context.Context, image string, note func()) (puller.Manifest, error) {
	c.mu.Lock()
	note()
	c.running++
	c.most = max(c.most, c.running)
	c.mu.Unlock()
	var late error
	select {
	case <-time.After(c.took):
	case <-ctx.Done():
		late = puller.Errorf(puller.ErrRegistryUnavailable, "it did not answer: %w", ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	m, known := c.manifests[image]
	switch {
	case late != nil:
		return m, late
	case c.errs[image] != nil:
		return m, c.errs[image]
	case !known:
		return m, puller.Errorf(puller.ErrNotFound, "%s: manifest unknown", image)
	}
	return m, nil
}

// made returns what an image of NewImage with the seed is made of: its layers
// are of 1000 bytes and 1 byte.
func made(seed int) puller.Manifest {
	i := enginetest.NewImage(good, seed)
	m := puller.Manifest{Digest: enginetest.Digest(i), Platform: "linux/amd64", DiffIDs: i.DiffIDs}
	for n, id := range i.DiffIDs {
		m.Layers = append(m.Layers, puller.Blob{Digest: strings.Replace(id, ":d", ":b", 1), Size: []int64{1000, 1}[n]})
	}
	return m
}

// onTop puts layers on an image's first.
func onTop(base, m puller.Manifest) puller.Manifest {
	m.Layers = append([]puller.Blob{base.Layers[0]}, m.Layers...)
	m.DiffIDs = append([]string{base.DiffIDs[0]}, m.DiffIDs...)
	return m
}

func withCatalog(t *testing.T, c *catalog, test func(d *daemon)) {
	t.Helper()
	o := defaults
	if c != nil {
		o.Registry = c
	}
	withDaemonOf(t, o, nil, test)
}

func (d *daemon) plan(r puller.PrewarmRequest) puller.Plan {
	d.Helper()
	plan, err := d.Plan(d.Context(), r)
	if err != nil {
		d.Fatal(err)
	}
	d.wantPulls(0)
	return plan
}

func asked(images ...string) (r puller.PrewarmRequest) {
	for _, i := range images {
		r.Images = append(r.Images, puller.PullRequest{Image: i})
	}
	return r
}

func TestPlan(t *testing.T) {
	t.Parallel()
	t.Run("by policy", testPlanByPolicy)
	t.Run("counts", testPlanCounts)
	t.Run("nothing to pull", testPlanNothingToPull)
	t.Run("platform and credentials", testPlanPlatformAndCredentials)
	t.Run("wrong name", testPlanWrongName)
	t.Run("engine unavailable", testPlanEngineUnavailable)
	t.Run("unknown image", testPlanUnknownImage)
	t.Run("concurrency", testPlanConcurrency)
	t.Run("registry silent", testPlanRegistrySilent)
	t.Run("registry unsteady", testPlanRegistryUnsteady)
	t.Run("deadline", testPlanDeadline)
	t.Run("canceled", testPlanCanceled)
	t.Run("disk too small", testPlanDiskTooSmall)
	t.Run("index without platform", testPlanIndexWithoutPlatform)
	t.Run("cached", testPlanCached)
}

func testPlanByPolicy(t *testing.T) {
	limited := &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 30 * time.Second, Err: fmt.Errorf("429")}
	for _, c := range []struct {
		name     string
		policy   puller.Policy
		there    int // the seed of the image that is there, 0 for none
		moved    int // that in the registry, 0 for no registry
		err      error
		status   puller.Status
		kind     puller.ErrorKind
		weighed  bool
		complete bool
		heads    int
		queries  int
	}{
		{"missing, present", puller.PolicyMissing, 1, 2, nil, puller.StatusPresent, "", false, true, 0, 0},
		{"missing, absent", puller.PolicyMissing, 0, 2, nil, puller.StatusMissing, "", true, true, 0, 1},
		{"never, present", puller.PolicyNever, 1, 2, nil, puller.StatusPresent, "", false, true, 0, 0},
		{"never, absent", puller.PolicyNever, 0, 2, nil, puller.StatusMissing, puller.ErrNotFound, false, true, 0, 0},
		{"newer, unchanged", puller.PolicyNewer, 1, 1, nil, puller.StatusPresent, "", false, true, 1, 0},
		{"newer, moved", puller.PolicyNewer, 1, 2, nil, puller.StatusStale, "", true, true, 1, 1},
		{"newer, absent", puller.PolicyNewer, 0, 2, nil, puller.StatusMissing, "", true, true, 0, 1},
		{"always, unchanged", puller.PolicyAlways, 1, 1, nil, puller.StatusPresent, "", false, true, 1, 0},
		{"always, moved", puller.PolicyAlways, 1, 2, nil, puller.StatusStale, "", true, true, 1, 1},
		{"newer, and the registry limits the rate", puller.PolicyNewer, 1, 2, limited, puller.StatusUnknown, puller.ErrRateLimited, false, false, 1, 0},
		{"absent, and the registry limits the rate", puller.PolicyMissing, 0, 2, limited, puller.StatusMissing, puller.ErrRateLimited, false, false, 0, 1},
		{"absent, and the registry does not answer", puller.PolicyMissing, 0, 2, puller.Errorf(puller.ErrRegistryUnavailable, "refused"), puller.StatusMissing, puller.ErrRegistryUnavailable, false, false, 0, 1},
		{"absent, and denied", puller.PolicyMissing, 0, 2, puller.Errorf(puller.ErrDenied, "401"), puller.StatusMissing, puller.ErrDenied, false, true, 0, 1},
		{"absent, and not known to the registry", puller.PolicyMissing, 0, 2, puller.Errorf(puller.ErrNotFound, "404"), puller.StatusMissing, puller.ErrNotFound, false, true, 0, 1},
		{"absent, and for no platform of ours", puller.PolicyMissing, 0, 2, puller.Errorf(puller.ErrPlatformMismatch, "s390x"), puller.StatusMissing, puller.ErrPlatformMismatch, false, true, 0, 1},
		{"absent, and the registry may not be asked", puller.PolicyMissing, 0, 2, puller.Errorf(puller.ErrForbidden, "private"), puller.StatusMissing, "", false, false, 0, 1},
		{"newer, present, and the registry may not be asked", puller.PolicyNewer, 1, 2, puller.Errorf(puller.ErrForbidden, "private"), puller.StatusUnknown, "", false, false, 1, 0},
		{"missing, present, without a registry", puller.PolicyMissing, 1, 0, nil, puller.StatusPresent, "", false, true, 0, 0},
		{"missing, absent, without a registry", puller.PolicyMissing, 0, 0, nil, puller.StatusMissing, "", false, false, 0, 0},
		{"newer, present, without a registry", puller.PolicyNewer, 1, 0, nil, puller.StatusUnknown, "", false, false, 0, 0},
		{"always, present, without a registry", puller.PolicyAlways, 1, 0, nil, puller.StatusUnknown, "", false, false, 0, 0},
		{"never, absent, without a registry", puller.PolicyNever, 0, 0, nil, puller.StatusMissing, puller.ErrNotFound, false, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var registry *catalog
			if c.moved != 0 {
				registry = &catalog{manifests: map[string]puller.Manifest{good: made(c.moved)}, errs: map[string]error{good: c.err}}
			}
			withCatalog(t, registry, func(d *daemon) {
				if c.there != 0 {
					d.engine.Tag(good, enginetest.NewImage(good, c.there))
				}
				r := asked("registry.test/good:v1")
				r.Policy = c.policy
				plan := d.plan(r)
				one := plan.Images[0]
				if one.Image != good || one.Policy != c.policy || one.Status != c.status || (one.Weight != nil) != c.weighed || plan.Complete != c.complete {
					d.Errorf("the plan is %+v, %+v", one, plan)
				}
				if kind := kindOfJob(one.Error); kind != c.kind || c.kind != "" && (one.Error.Message == "" || one.Error.Retryable != c.kind.Retryable()) {
					d.Errorf("the error is %+v", one.Error)
				}
				if c.err == limited && one.Error.RetryAfterSeconds != 30 {
					d.Errorf("the error is %+v", one.Error)
				}
				if c.weighed && (*one.Weight != puller.Weight{Size: 1001, Fetch: 1001, Layers: 2} || plan.Fetch != 1001) {
					d.Errorf("it weighs %+v", one.Weight)
				}
				digest := ""
				switch {
				case c.status == puller.StatusPresent || c.status == puller.StatusUnknown:
					digest = made(c.there).Digest
				case c.weighed:
					digest = made(c.moved).Digest
				}
				if one.Digest != digest {
					d.Errorf("the digest is %q, not %q", one.Digest, digest)
				}
				if registry != nil && (len(registry.heads) != c.heads || len(registry.queries) != c.queries) {
					d.Errorf("the registry was asked for %q and %+v", registry.heads, registry.queries)
				}
				if notes := strings.Join(plan.Notes, " "); strings.Contains(notes, "0.0 MB") || strings.Contains(notes, "registries.allow_private") != (puller.KindOf(c.err) == puller.ErrForbidden) {
					d.Errorf("the notes are %q", plan.Notes)
				}
				if noted := strings.Contains(strings.Join(plan.Notes, ""), "not known of 1 of "); noted == c.complete {
					d.Errorf("the notes are %q", plan.Notes)
				}
			})
		})
	}
}

func kindOfJob(e *puller.JobError) puller.ErrorKind {
	if e == nil {
		return ""
	}
	return e.Kind
}

func testPlanCounts(t *testing.T) {
	base, shared := made(1), made(2)
	registry := &catalog{manifests: map[string]puller.Manifest{
		"registry.test/a:v1": onTop(base, made(3)), // 1000 of the base, 1001 of its own
		"registry.test/b:v1": shared,
		"registry.test/c:v1": onTop(shared, made(4)),
	}}
	withCatalog(t, registry, func(d *daemon) {
		d.engine.Tag("registry.test/base:v1", enginetest.NewImage("registry.test/base:v1", 1))
		r := asked("registry.test/c:v1", "registry.test/nope:v1", "registry.test/b:v1", "registry.test/a:v1", "registry.test/base:v1")
		r.Skipped = []puller.Skipped{{Service: "web", Reason: "it is built"}}
		plan := d.plan(r)
		got, err := json.MarshalIndent(plan, "", " ")
		if err != nil {
			d.Fatal(err)
		}
		digest := func(seed int) string { return made(seed).Digest }
		want := `{
 "images": [
  {"image": "registry.test/c:v1", "policy": "missing", "status": "missing", "digest": "` + digest(4) + `",
   "size": 2001, "fetch": 2001, "layers": 3, "layers_present": 0, "layers_shared": 0},
  {"image": "registry.test/nope:v1", "policy": "missing", "status": "missing",
   "error": {"kind": "not_found", "message": "registry.test/nope:v1: manifest unknown", "retryable": false}},
  {"image": "registry.test/b:v1", "policy": "missing", "status": "missing", "digest": "` + digest(2) + `",
   "size": 1001, "fetch": 1, "layers": 2, "layers_present": 0, "layers_shared": 1},
  {"image": "registry.test/a:v1", "policy": "missing", "status": "missing", "digest": "` + digest(3) + `",
   "size": 2001, "fetch": 1001, "layers": 3, "layers_present": 1, "layers_shared": 0},
  {"image": "registry.test/base:v1", "policy": "missing", "status": "present", "digest": "` + digest(1) + `"}
 ],
 "fetch": 3003, "shared": 1000, "present": 1000, "complete": true,
 "skipped": [{"service": "web", "reason": "it is built"}]
}`
		var a, b any
		if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
			d.Errorf("the plan is %s", got)
		}
		var back puller.Plan
		if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, plan) {
			d.Errorf("read again it is %+v, %v", back, err)
		}
	})
}

func testPlanNothingToPull(t *testing.T) {
	withCatalog(t, nil, func(d *daemon) {
		plan := d.plan(with(puller.PrewarmRequest{}, func(r *puller.PrewarmRequest) { r.Skipped = []puller.Skipped{{Service: "web", Reason: "it is built"}} }))
		got, _ := json.Marshal(plan)
		if want := `{"images":[],"fetch":0,"shared":0,"present":0,"complete":true,"skipped":[{"service":"web","reason":"it is built"}]}`; string(got) != want {
			d.Errorf("the plan is %s", got)
		}
	})
}

func testPlanPlatformAndCredentials(t *testing.T) {
	arm := made(2)
	arm.Platform = "linux/arm64"
	const third = "registry.test/third:v1"
	registry := &catalog{manifests: map[string]puller.Manifest{good: made(1), other: arm, third: arm}}
	withCatalog(t, registry, func(d *daemon) {
		secret := credentials(d.T, "hunter2")
		r := asked(good, other, third)
		r.Images[1].Platform, r.Images[2].Platform = "linux/arm64/v8", "linux/amd64"
		r.Credentials = secret
		plan := d.plan(r)
		platforms := map[string]int{}
		for _, q := range registry.queries {
			platforms[q.Platform]++
			if q.Credentials != secret || q.Free {
				d.Errorf("it asked %+v", q)
			}
		}
		// The engine's own, where none is asked for.
		if fmt.Sprint(platforms) != "map[linux/amd64:2 linux/arm64/v8:1]" {
			d.Errorf("it asked for %v", platforms)
		}
		if plan.Images[1].Error != nil || plan.Images[1].Platform != "linux/arm64/v8" {
			d.Errorf("the plan is %+v", plan.Images[1])
		}
		// An image in no index comes as it is; what was asked for is known here.
		if e := plan.Images[2].Error; kindOfJob(e) != puller.ErrPlatformMismatch || !strings.Contains(e.Message, "linux/arm64, not for linux/amd64") || plan.Images[2].Weight != nil {
			d.Errorf("the error is %+v", e)
		}
		// Nobody asked for a platform: then it may be any.
		registry.manifests[good] = arm
		if plan := d.plan(asked(good)); plan.Images[0].Error != nil || plan.Fetch != 1001 {
			d.Errorf("the plan is %+v", plan.Images[0])
		}
	})
}

func testPlanWrongName(t *testing.T) {
	registry := &catalog{}
	withCatalog(t, registry, func(d *daemon) {
		_, err := d.Plan(d.Context(), asked(good, "UPPER case"))
		if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "images[1]: image") {
			d.Errorf("the error is %v", err)
		}
		if _, err := d.Plan(d.Context(), puller.PrewarmRequest{}); puller.KindOf(err) != puller.ErrInvalidRequest {
			d.Errorf("the error is %v", err)
		}
		if d.engine.Counts().Inspects+len(registry.heads)+len(registry.queries) != 0 {
			d.Error("somebody was asked")
		}
	})
}

func testPlanEngineUnavailable(t *testing.T) {
	withCatalog(t, &catalog{}, func(d *daemon) {
		d.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
			d.engine.Kill()
			return 0, ""
		})
		_, err := d.Plan(d.Context(), asked(good, other))
		if kind := puller.KindOf(err); kind != puller.ErrEngineUnavailable && kind != puller.ErrTruncated {
			d.Errorf("it goes while the plan is made: %v", err)
		}
		if _, err = d.Plan(d.Context(), asked(good)); puller.KindOf(err) != puller.ErrEngineUnavailable {
			d.Errorf("it is not there: %v", err)
		}
	})
}

func testPlanUnknownImage(t *testing.T) {
	withCatalog(t, &catalog{manifests: map[string]puller.Manifest{other: made(1)}}, func(d *daemon) {
		d.engine.OnInspect(func(image string, _ <-chan struct{}) (int, string) {
			if image == good {
				return 500, "the layer store is in disorder"
			}
			return 0, ""
		})
		plan := d.plan(asked(good, other))
		if one := plan.Images[0]; one.Status != puller.StatusUnknown || kindOfJob(one.Error) != puller.ErrInternal || plan.Fetch != 1001 {
			d.Errorf("the plan is %+v", plan)
		}
	})
}

func many(n int) (images []string, manifests map[string]puller.Manifest) {
	manifests = make(map[string]puller.Manifest)
	for i := range n {
		image := fmt.Sprintf("registry.test/image%03d:v1", i)
		images = append(images, image)
		manifests[image] = made(i + 1)
	}
	return images, manifests
}

func testPlanConcurrency(t *testing.T) {
	images, manifests := many(100)
	registry := &catalog{manifests: manifests, took: time.Second}
	withCatalog(t, registry, func(d *daemon) {
		began := time.Now()
		plan := d.plan(asked(images...))
		if took := time.Since(began); took != 13*time.Second || registry.most != 8 {
			d.Errorf("it took %s, with %d at a time", took, registry.most)
		}
		for i, one := range plan.Images {
			if one.Image != images[i] || one.Digest != made(i+1).Digest {
				d.Errorf("image %d is %+v", i, one)
			}
		}
	})
}

func testPlanRegistrySilent(t *testing.T) {
	images, manifests := many(100)
	registry := &catalog{manifests: manifests, errs: make(map[string]error), took: 20 * time.Second}
	for _, i := range images {
		registry.errs[i] = puller.Errorf(puller.ErrRegistryUnavailable, "no answer within 20s")
	}
	const elsewhere = "elsewhere.test/image:v1"
	manifests[elsewhere] = made(200)
	withCatalog(t, registry, func(d *daemon) {
		began := time.Now()
		plan := d.plan(asked(append(images, elsewhere)...))
		// Eight are under way when the first fails, and up to two more begin
		// before the third has; one is for the other registry.
		if took, n := time.Since(began), len(registry.queries); took != 40*time.Second || n < 9 || n > 11 {
			d.Errorf("it took %s and %d queries", took, n)
		}
		for _, one := range plan.Images[:100] {
			if kindOfJob(one.Error) != puller.ErrRegistryUnavailable || !strings.Contains(one.Error.Message, "no answer within 20s") {
				d.Fatalf("the plan is %+v", one.Error)
			}
		}
		if plan.Complete || plan.Images[100].Error != nil || plan.Fetch != 1001 {
			d.Errorf("another registry's image is %+v", plan.Images[100])
		}
	})
}

// Failures in a row count, not those among answers.
func testPlanRegistryUnsteady(t *testing.T) {
	images, manifests := many(100)
	registry := &catalog{manifests: manifests, errs: make(map[string]error)}
	for i := 0; i < len(images); i += 2 {
		registry.errs[images[i]] = puller.Errorf(puller.ErrRegistryUnavailable, "502")
	}
	withCatalog(t, registry, func(d *daemon) {
		for _, i := range images {
			d.plan(asked(i)) // a plan remembers nothing of another
		}
		registry.queries = nil
		registry.errs = map[string]error{images[0]: registry.errs[images[0]], images[50]: registry.errs[images[0]]}
		d.plan(asked(images...))
		if len(registry.queries) != 100 {
			d.Errorf("it made %d queries", len(registry.queries))
		}
	})
}

func testPlanDeadline(t *testing.T) {
	images, manifests := many(100)
	registry := &catalog{manifests: manifests, took: 19 * time.Second}
	withCatalog(t, registry, func(d *daemon) {
		began := time.Now()
		plan := d.plan(asked(images...))
		if took := time.Since(began); took != 2*time.Minute {
			d.Errorf("it took %s", took)
		}
		if plan.Complete || plan.Fetch != 6*8*1001 || len(plan.Images) != 100 {
			d.Errorf("%d are to be fetched of %d images, complete %t", plan.Fetch, len(plan.Images), plan.Complete)
		}
	})
}

func testPlanCanceled(t *testing.T) {
	images, manifests := many(100)
	withCatalog(t, &catalog{manifests: manifests, took: 19 * time.Second}, func(d *daemon) {
		ctx, cancel := context.WithCancel(d.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Plan(ctx, asked(images...)); puller.KindOf(err) != puller.ErrCanceled {
			d.Errorf("the error is %v", err)
		}
		ctx, cancel = context.WithTimeout(d.Context(), time.Second)
		defer cancel()
		if _, err := d.Plan(ctx, asked(images...)); puller.KindOf(err) != puller.ErrTimeout {
			d.Errorf("the error is %v", err)
		}
	})
}

func testPlanDiskTooSmall(t *testing.T) {
	huge := made(2)
	huge.Layers[0].Size = 1 << 49
	registry := &catalog{manifests: map[string]puller.Manifest{good: huge, other: made(1)}}
	dir := t.TempDir()
	withCatalog(t, registry, func(d *daemon) {
		if plan := d.plan(asked(good)); plan.EngineFree != nil || len(plan.Notes) != 0 {
			d.Errorf("what is free is not known, but the plan is %+v", plan)
		}
		d.engine.SetRoot("", dir)
		plan := d.plan(asked(other))
		if plan.EngineFree == nil {
			d.Skip("what is free is not known on this system")
		}
		if len(plan.Notes) != 0 || *plan.EngineFree <= 1001 {
			d.Errorf("the plan is %+v", plan)
		}
		if plan := d.plan(asked(good)); len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "562949953.4 MB are to be fetched") {
			d.Errorf("the notes are %q", plan.Notes)
		}
	})
}

func testPlanIndexWithoutPlatform(t *testing.T) {
	o := once
	manifest := puller.Manifest{Digest: someDigest, Platform: "linux/amd64", Layers: []puller.Blob{{Digest: someDigest, Size: 1}}, DiffIDs: []string{someDigest}}
	unnamed := manifest
	unnamed.Unnamed = true
	o.Registry = &fakeRegistry{manifests: map[string]puller.Manifest{good + " linux/amd64": unnamed, other + " linux/amd64": manifest}}
	withDaemonOf(t, o, nil, func(d *daemon) {
		p := d.plan(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}})
		if len(p.Notes) != 1 || !strings.HasPrefix(p.Notes[0], good+": ") || !strings.Contains(p.Notes[0], "platform") {
			d.Errorf("the notes are %q", p.Notes)
		}
		if p.Images[0].Error != nil || p.Images[0].Weight == nil {
			d.Errorf("the image is %+v", p.Images[0])
		}
	})
}

// cacher is an Accelerator that has some blobs.
type cacher struct {
	engines.Accelerator
	blobs map[string]bool
}

func (c cacher) Cached(all []puller.Blob) (cached []puller.Blob) {
	for _, b := range all {
		if c.blobs[b.Digest] {
			cached = append(cached, b)
		}
	}
	return cached
}

func testPlanCached(t *testing.T) {
	one, two := made(1), made(2)
	second := "registry.test/second:v1"
	o := defaults
	o.Registry = &catalog{manifests: map[string]puller.Manifest{good: one, second: two}}
	o.Accelerator = cacher{blobs: map[string]bool{two.Layers[0].Digest: true}}
	withDaemonOf(t, o, nil, func(d *daemon) {
		if plan := d.plan(asked(good, second)); plan.Cached != 1000 || plan.Fetch != 2002 {
			d.Errorf("%d of %d bytes are cached", plan.Cached, plan.Fetch)
		}
	})
}
