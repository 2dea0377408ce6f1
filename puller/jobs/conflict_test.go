package jobs_test

import (
	"context"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
)

// severalPlatforms is an engine whose store keeps them under one name.
type severalPlatforms struct{ engines.Engine }

func (e severalPlatforms) Info(ctx context.Context) (puller.EngineInfo, error) {
	info, err := e.Engine.Info(ctx)
	info.ImageStore = "containerd"
	return info, err
}

func TestPlatformConflict(t *testing.T) {
	t.Parallel()
	t.Run("in prewarm", testPlatformConflictInPrewarm)
	t.Run("after engine away", testPlatformConflictAfterEngineAway)
	t.Run("in plan", testPlatformConflictInPlan)
}

// A graph driver keeps one platform under a name: of two that are asked for, one
// would take the name from the other.
func testPlatformConflictInPrewarm(t *testing.T) {
	one := func(image, platform string) puller.PullRequest {
		return puller.PullRequest{Image: image, Platform: platform}
	}
	for _, c := range []struct {
		name     string
		images   puller.Images
		conflict bool
	}{
		{"two platforms", puller.Images{one(good, "linux/amd64"), one(other, ""), one(good, "linux/arm64")}, true},
		{"two variants", puller.Images{one(good, "linux/arm/v6"), one(good, "linux/arm/v7")}, true},
		{"a name in two forms", puller.Images{one("alpine", "linux/arm64"), one("docker.io/library/alpine:latest", "linux/amd64")}, true},
		{"the engine's own and another", puller.Images{one(good, ""), one(good, "linux/arm64")}, true},
		{"another and the engine's own", puller.Images{one(good, "linux/arm64"), one(good, "")}, true},
		{"a digest", puller.Images{one(good+"@sha256:"+strings.Repeat("a", 64), "linux/amd64"), one(good+"@sha256:"+strings.Repeat("a", 64), "linux/arm64")}, true},
		{"a digest with a tag and without", puller.Images{one(good+"@sha256:"+strings.Repeat("a", 64), "linux/amd64"), one("registry.test/good@sha256:"+strings.Repeat("a", 64), "linux/arm64")}, true},
		{"the engine's own, twice", puller.Images{one(good, ""), one(good, "linux/amd64")}, false},
		{"one platform in two forms", puller.Images{one(good, "linux/arm64"), one(good, "linux/arm64/v8")}, false},
		{"one platform, twice", puller.Images{one(good, "linux/arm64"), one(good, "linux/arm64")}, false},
		{"two names", puller.Images{one(good, "linux/amd64"), one(other, "linux/arm64")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := puller.PrewarmRequest{Images: c.images}
			refused := func(d *daemon) []error {
				_, plan := d.Plan(d.Context(), request)
				j, prewarm := d.Prewarm(request)
				if prewarm == nil {
					d.end(j)
				}
				return []error{plan, prewarm}
			}
			withDaemonOf(t, once, nil, func(d *daemon) {
				for _, err := range refused(d) {
					switch {
					case !c.conflict && err != nil:
						d.Error(err)
					case c.conflict && (puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "images[0]") || !strings.Contains(err.Error(), "only the last")):
						d.Errorf("the error is %v", err)
					}
				}
				if c.conflict {
					d.wantPulls(0)
				}
			})
			withDaemonOf(t, once, func(e engines.Engine) engines.Engine { return severalPlatforms{e} }, func(d *daemon) {
				for _, err := range refused(d) {
					if err != nil {
						d.Errorf("a store that keeps several platforms: %v", err)
					}
				}
			})
		})
	}
}

// What could not be asked of an engine that was away is when it is back.
func testPlatformConflictAfterEngineAway(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		d.serve(other)
		d.engine.Kill()
		j, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: good, Platform: "linux/arm64"}, {Image: other}}})
		if err != nil {
			d.Fatal(err)
		}
		d.engine.Revive()
		v := d.failed(j, puller.ErrConflict)
		for i, want := range []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateSucceeded} {
			if s := v.Images[i]; s.State != want || (s.Error != nil) != (want == puller.StateFailed) || s.Error != nil && s.Error.Kind != puller.ErrConflict {
				d.Errorf("image %d is %+v", i, s)
			}
		}
		d.wantPulls(2)
	})
}

// What the registry does not have for a platform takes the name from nothing.
func testPlatformConflictInPlan(t *testing.T) {
	arm := made(1)
	arm.Platform = "linux/arm64"
	withCatalog(t, &catalog{manifests: map[string]puller.Manifest{good: arm}}, func(d *daemon) {
		r := asked(good, good)
		r.Images[0].Platform, r.Images[1].Platform = "linux/s390x", "linux/arm64"
		plan := d.plan(r)
		if kindOfJob(plan.Images[0].Error) != puller.ErrPlatformMismatch || plan.Images[1].Error != nil {
			d.Errorf("the plan is %+v, %+v", plan.Images[0].Error, plan.Images[1].Error)
		}
	})
}
