package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/rules"
)

func TestImageID(t *testing.T) {
	t.Parallel()
	t.Run("lookup", testImageIDLookup)
	t.Run("not pulled", testImageIDNotPulled)
	t.Run("in prewarm", testImageIDInPrewarm)
	t.Run("forbidden", testImageIDForbidden)
}

// What is written as an ID is looked up on the engine, and never pulled under a name
// that happens to be spelled like it.
func testImageIDLookup(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	absent := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		name, image, platform string
		policy                puller.Policy
		full                  string
		kind                  puller.ErrorKind
		refused               bool // at once
	}{
		{"it is there", image.ID, "", "", image.ID, "", false},
		{"its digits alone", strings.TrimPrefix(image.ID, "sha256:"), "", "", "", puller.ErrInvalidRequest, true},
		{"it is never to be pulled", image.ID, "", puller.PolicyNever, image.ID, "", false},
		{"its platform", image.ID, "linux/amd64", "", image.ID, "", false},
		{"another platform", image.ID, "linux/arm64", "", image.ID, puller.ErrPlatformMismatch, false},
		{"it is not there", absent, "", "", absent, puller.ErrInvalidRequest, false},
		{"it is not there, and never to be pulled", absent, "", puller.PolicyNever, absent, puller.ErrNotFound, false},
		{"a registry is to be asked", image.ID, "", puller.PolicyAlways, "", puller.ErrInvalidRequest, true},
		{"what is newer is asked for", image.ID, "", puller.PolicyNewer, "", puller.ErrInvalidRequest, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.engine.Tag(good, image)
				wants := func(what string, j puller.Job, err error) {
					d.Helper()
					if c.refused {
						if puller.KindOf(err) != c.kind || !strings.Contains(err.Error(), "image ID") {
							d.Errorf("%s: %v", what, err)
						}
						return
					}
					if err != nil {
						d.Fatal(err)
					}
					switch v := d.end(j); {
					case v.Image != c.full:
						d.Errorf("%s: the image is %s", what, v.Image)
					case c.kind == "" && (v.Result == nil || v.Result.Source != puller.SourcePresent || v.Result.ImageID != image.ID || v.Result.Digest != enginetest.Digest(image)):
						d.Errorf("%s: the result is %+v, %+v", what, v.Result, v.Error)
					case c.kind != "" && (v.Error == nil || v.Error.Kind != c.kind || c.kind != puller.ErrPlatformMismatch && !strings.Contains(v.Error.Message, "image ID")):
						d.Errorf("%s: the error is %+v", what, v.Error)
					}
				}
				j, err := d.Pull(puller.PullRequest{Image: c.image, Platform: c.platform, Policy: c.policy, Credentials: credentials(d.T, "hunter2")})
				wants("pull", j, err)
				j, err = d.Service.Run(puller.RunRequest{Image: c.image, Platform: c.platform, Policy: c.policy})
				wants("run", j, err)
				if n := d.engine.Counts().Created; (n == 1) != (c.kind == "") {
					d.Errorf("%d containers were created", n)
				}
				plan, err := d.Plan(d.Context(), puller.PrewarmRequest{Images: puller.Images{{Image: c.image, Platform: c.platform, Policy: c.policy}}})
				switch {
				case c.refused:
					wants("plan", puller.Job{}, err)
				case err != nil:
					d.Error(err)
				case c.kind == "" && plan.Images[0].Status != puller.StatusPresent, c.kind != "" && (plan.Images[0].Error == nil || plan.Images[0].Error.Kind != c.kind):
					d.Errorf("the plan is %+v, %+v", plan.Images[0], plan.Images[0].Error)
				}
				d.wantPulls(0)
			})
		})
	}
}

// It waits for an engine that is away, too, and is not pulled then.
func testImageIDNotPulled(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		image := enginetest.NewImage(good, 1)
		d.engine.Tag(good, image)
		d.engine.Kill()
		there := d.submit(puller.PullRequest{Image: image.ID})
		absent := d.submit(puller.PullRequest{Image: "sha256:" + strings.Repeat("a", 64)})
		d.inState(there, puller.StateQueued, "")
		d.engine.Revive()
		d.succeeded(there, puller.SourcePresent)
		d.failed(absent, puller.ErrInvalidRequest)
		d.wantPulls(0)
	})
}

// What a request for an ID alone is content with, a list with an ID in it is content
// with too.
func testImageIDInPrewarm(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	for _, c := range []struct {
		name             string
		daemons, request puller.Policy
		refused          bool
	}{
		{"the daemon's policy asks registries", puller.PolicyAlways, "", false},
		{"the daemon's policy asks for what is newer", puller.PolicyNewer, "", false},
		{"the list's policy asks registries", puller.PolicyMissing, puller.PolicyAlways, true},
		{"credentials that are for any registry", puller.PolicyMissing, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := once
			o.Policy = c.daemons
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Tag(good, image)
				d.serve("registry.test/team/other:v1")
				request := puller.PrewarmRequest{
					Images: puller.Images{{Image: "registry.test/team/other:v1"}, {Image: image.ID}},
					Policy: c.request, Credentials: credentials(t, "hunter2"),
				}
				j, err := d.Prewarm(request)
				if c.refused {
					if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "images[1]: policy: ") {
						t.Error(err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if v := d.end(j); v.State != puller.StateSucceeded {
					t.Errorf("it ends as %s: %+v", v.State, v.Error)
				}
				if _, err := d.Plan(d.Context(), request); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Rules on names can't be applied to an ID, and no registry says which callers may have
// one.
func testImageIDForbidden(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	for name, change := range map[string]func(*jobs.Options){
		"allow": func(o *jobs.Options) {
			o.Rules = parseRules(t, rules.Written{Allow: []string{"registry.test/**"}})
		},
		"deny":           func(o *jobs.Options) { o.Rules = parseRules(t, rules.Written{Deny: []string{"evil.test/**"}}) },
		"require_digest": func(o *jobs.Options) { o.Rules = parseRules(t, rules.Written{RequireDigest: true}) },
		"verify_image_access": func(o *jobs.Options) {
			o.VerifyAccess, o.Registry = true, &fakeRegistry{digest: enginetest.Digest(image)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := once
			change(&o)
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Tag(good, image)
				if _, err := d.Pull(puller.PullRequest{Image: image.ID}); puller.KindOf(err) != puller.ErrForbidden {
					d.Errorf("a pull: %v", err)
				}
				if _, err := d.Service.Run(puller.RunRequest{Image: image.ID}); puller.KindOf(err) != puller.ErrForbidden {
					d.Errorf("a run: %v", err)
				}
				if _, err := d.Plan(d.Context(), puller.PrewarmRequest{Images: puller.Images{{Image: image.ID}}}); puller.KindOf(err) != puller.ErrForbidden {
					d.Errorf("a plan: %v", err)
				}
			})
		})
	}
}
