package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// planOf returns what a plan says of one image.
func (d *daemon) planOf(r puller.PullRequest) puller.PlannedImage {
	d.Helper()
	plan, err := d.Plan(d.Context(), puller.PrewarmRequest{Images: puller.Images{r}})
	if err != nil {
		d.Fatal(err)
	}
	return plan.Images[0]
}

func TestContent(t *testing.T) {
	t.Parallel()
	t.Run("partial", testContentPartial)
	t.Run("left out by pull", testContentLeftOutByPull)
	t.Run("unknown", testContentUnknown)
	t.Run("platform not in index", testContentPlatformNotInIndex)
	t.Run("without index", testContentWithoutIndex)
}

// The containerd image store shows an image as soon as its manifest and configuration
// are there, and all platforms of an index under one name.
func testContentPartial(t *testing.T) {
	x := enginetest.NewIndex(good, 7, "linux/amd64", "linux/arm64", "linux/arm/v7")
	for _, c := range []struct {
		name, platform string
		half           bool // a pull of it was cut
	}{
		{"nothing of the platform came", "linux/amd64", false},
		{"a pull of the platform was cut", "linux/amd64", true},
		{"nothing of the engine's own platform came", "", false},
		{"a pull of the engine's own platform was cut", "", true},
	} {
		for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNewer, puller.PolicyAlways} {
			t.Run(c.name+", "+string(policy), func(t *testing.T) {
				o := running
				o.Retries = 0
				o.Registry = &fakeRegistry{digest: x.Digest, manifests: manifests(x)}
				withDaemonOf(t, o, nil, func(d *daemon) {
					d.engine.UseContainerdStore()
					d.serveIndex()
					d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: "linux/arm64"}), puller.SourcePulled)
					request := func(p puller.Policy) puller.PullRequest {
						return puller.PullRequest{Image: good, Platform: c.platform, Policy: p}
					}
					if c.half {
						d.scriptIndex(x, enginetest.CutIndex(x))
						d.failed(d.submit(request(puller.PolicyMissing)), puller.ErrTruncated)
						d.serveIndex()
					}
					v := d.failed(d.submit(request(puller.PolicyNever)), puller.ErrNotFound)
					if !strings.Contains(v.Error.Message, "content") {
						d.Errorf("the error is %s", v.Error.Message)
					}
					d.failed(d.run(puller.RunRequest{Platform: c.platform, Policy: puller.PolicyNever}), puller.ErrNotFound)
					if n := d.engine.Counts().Created; n != 0 {
						d.Errorf("%d containers were created", n)
					}
					if p := d.planOf(request(puller.PolicyNever)); p.Status != puller.StatusMissing || p.Error == nil || p.Error.Kind != puller.ErrNotFound {
						d.Errorf("the plan has it as %+v, %+v", p, p.Error)
					}
					if p := d.planOf(request(policy)); p.Status != puller.StatusMissing || p.Weight == nil || p.Fetch != 200 || p.LayersPresent != 0 {
						d.Errorf("the plan has it as %+v, %+v", p, p.Weight)
					}
					if _, err := d.Image(d.Context(), good, c.platform, nil); puller.KindOf(err) != puller.ErrNotFound {
						d.Errorf("it is shown: %v", err)
					}
					v = d.succeeded(d.submit(request(policy)), puller.SourcePulled)
					if v.Result.ImageID != x.Digest || v.Result.Digest != x.Digest || v.Result.Size == 0 {
						d.Errorf("the result is %+v", v.Result)
					}
					for p, source := range map[puller.Policy]puller.Source{
						puller.PolicyNever: puller.SourcePresent, puller.PolicyMissing: puller.SourcePresent, puller.PolicyNewer: puller.SourceUpToDate, puller.PolicyAlways: puller.SourceUpToDate,
					} {
						d.succeeded(d.submit(request(p)), source)
					}
					if p := d.planOf(request(puller.PolicyMissing)); p.Status != puller.StatusPresent {
						d.Errorf("the plan has it as %+v", p)
					}
					// The other platform has not gone.
					d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: "linux/arm64", Policy: puller.PolicyNever}), puller.SourcePresent)
				})
			})
		}
	}
}

// A pull that says it ended well, and has left the layers out, is no success.
func testContentLeftOutByPull(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.engine.UseContainerdStore()
		x := d.serveIndex()
		d.engine.Script(good, func(p *enginetest.Pull) {
			enginetest.ServeIndex(x)(p)
			d.engine.SetContent(x.For("").Manifest, puller.ContentPartial)
		})
		d.failed(d.pullAlways(good), puller.ErrTruncated)
		d.failed(d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64"}), puller.ErrTruncated)
	})
}

// Where the store can't say what is there, the engine's pull decides.
func testContentUnknown(t *testing.T) {
	x := enginetest.NewIndex(good, 7, "linux/amd64", "linux/arm64", "linux/arm/v7")
	for _, api := range []int{41, 47} {
		o := running
		o.Registry = &fakeRegistry{digest: x.Digest, manifests: manifests(x)}
		withDaemonOf(t, o, nil, func(d *daemon) {
			d.engine.UseContainerdStore()
			d.engine.SetAPI(api, 24)
			d.serveIndex()
			for n, platform := range []string{"linux/arm64", "linux/amd64", "", "linux/arm64"} {
				r := puller.PullRequest{Image: good, Platform: platform}
				for range 2 {
					if v := d.succeeded(d.submit(r), puller.SourcePulled); v.Result.Digest != x.Digest {
						d.Errorf("the result is %+v", v.Result)
					}
				}
				d.wantPulls(3*n + 2)
				r.Policy = puller.PolicyNever
				if v := d.failed(d.submit(r), puller.ErrNotFound); platform == "" && !strings.Contains(v.Error.Message, "1.48") {
					d.Errorf("the error is %s", v.Error.Message)
				}
				d.wantExit(d.run(puller.RunRequest{Platform: platform}), exits[x.For(platform).Platform])
			}
		})
	}
}

// A platform that an index does not have is not there, and can't be pulled.
func testContentPlatformNotInIndex(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.engine.UseContainerdStore()
		d.serveIndex()
		d.succeeded(d.pullAlways(good), puller.SourcePulled)
		for _, platform := range []string{"linux/s390x", "linux/arm/v6", "windows/amd64"} {
			d.failed(d.submit(puller.PullRequest{Image: good, Platform: platform, Policy: puller.PolicyNever}), puller.ErrNotFound)
			d.failed(d.submit(puller.PullRequest{Image: good, Platform: platform}), puller.ErrPlatformMismatch)
		}
	})
}

// An image that is in no index is there whatever its platform is, as it is for an
// engine that is asked for none.
func testContentWithoutIndex(t *testing.T) {
	withDaemonOf(t, running, nil, func(d *daemon) {
		d.engine.UseContainerdStore()
		i := enginetest.NewImage(good, 1)
		i.Platform = "linux/arm64"
		d.engine.Script(good, enginetest.Serve(i))
		d.succeeded(d.submit(puller.PullRequest{Image: good}), puller.SourcePulled)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever}), puller.SourcePresent)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: "linux/arm64"}), puller.SourcePresent)
		d.wantExit(d.run(puller.RunRequest{Policy: puller.PolicyNever}), 0)
		d.failed(d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64", Policy: puller.PolicyNever}), puller.ErrNotFound)
		d.failed(d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64"}), puller.ErrPlatformMismatch)
		d.engine.SetContent(enginetest.Digest(i), puller.ContentPartial)
		d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever}), puller.ErrNotFound)
	})
}
