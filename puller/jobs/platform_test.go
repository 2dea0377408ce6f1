package jobs_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/rules"
)

func TestPlatform(t *testing.T) {
	t.Parallel()
	t.Run("nearest", testPlatformNearest)
	t.Run("form in job", testPlatformFormInJob)
	t.Run("form in run", testPlatformFormInRun)
}

func testPlatformNearest(t *testing.T) {
	for _, c := range []struct {
		platform string
		offers   []string
		want     int
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64"}, 1},
		{"linux/amd64", []string{"windows/amd64", "linux/amd64/v1"}, 1},
		{"linux/amd64", []string{"linux/amd64/v2"}, -1},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, 1},
		{"linux/amd64", []string{"linux/386", "linux/arm64"}, 0},
		{"linux/386", []string{"linux/amd64"}, -1},
		{"linux/arm64", []string{"linux/arm64/v8"}, 0},
		{"linux/arm64/v8", []string{"linux/arm", "linux/arm64"}, 1},
		{"linux/arm64", []string{"linux/arm/v6", "linux/arm/v7"}, 1},
		{"linux/arm64/v9", []string{"linux/arm64"}, 0},
		{"linux/arm", []string{"linux/arm/v6", "linux/arm/v8"}, 0},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, 1},
		{"linux/arm/v7", []string{"linux/arm"}, 0},
		{"linux/s390x", []string{"linux/s390x"}, 0},
		{"linux/s390x", []string{"", "/", "linux", "s390x"}, -1},
		{"", []string{"linux/amd64"}, -1},
		{"linux/amd64", nil, -1},
	} {
		if got := names.ChoosePlatform(c.offers, c.platform); got != c.want {
			t.Errorf("of %q, %s takes %d, not %d", c.offers, c.platform, got, c.want)
		}
	}
}

func testPlatformFormInJob(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Script(good, enginetest.Serve(enginetest.NewImage(good, 7)))
		for _, given := range []string{"LINUX/AMD64", "linux/x86_64", "linux", "amd64"} {
			if j := d.submit(puller.PullRequest{Image: good, Platform: given}); j.Platform != "linux/amd64" {
				d.Errorf("%s is %s", given, j.Platform)
			}
			if j, err := d.Prewarm(puller.PrewarmRequest{Platform: given, Images: puller.Images{{Image: good}, {Image: good, Platform: given}}}); err != nil {
				d.Error(err)
			} else if child, err := d.Job(j.Children[1]); err != nil || child.Platform != "linux/amd64" {
				d.Errorf("of a list, %s is %s, %v", given, child.Platform, err)
			}
		}
		own := parseRules(t, rules.Written{Platforms: []string{"linux/aarch64"}})
		if _, err := d.Pull(with(puller.PullRequest{Image: good, Platform: "AMD64"}, func(r *puller.PullRequest) { r.Rules = own })); puller.KindOf(err) != puller.ErrForbidden {
			d.Errorf("another platform than the rules have: %v", err)
		}
		// Who asks for half a platform needs an engine that can say the rest.
		d.engine.Kill()
		if _, err := d.Pull(puller.PullRequest{Image: good, Platform: "linux"}); puller.KindOf(err) != puller.ErrEngineUnavailable || !strings.Contains(err.Error(), "os/arch") {
			d.Errorf("without an engine: %v", err)
		}
		d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64"})
		d.engine.Revive()
	})
}

func testPlatformFormInRun(t *testing.T) {
	withRunDaemon(t, enginetest.Hang(""), func(d *daemon) {
		for _, given := range []string{"LINUX/x86_64", "amd64", "linux"} {
			if j := d.run(puller.RunRequest{Platform: given}); j.Platform != "linux/amd64" {
				d.Errorf("%s is %s", given, j.Platform)
			}
		}
		synctest.Wait()
		all := d.engine.Containers()
		for _, c := range all {
			if c.Requested.Platform != "linux/amd64" {
				d.Errorf("a container is created for %q", c.Requested.Platform)
			}
		}
		if len(all) == 0 {
			d.Error("there is no container")
		}
	})
}

// A request is the same if it spells its platform otherwise.
func TestIdempotencyKeyPlatformForms(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		ids := map[string]bool{}
		for _, given := range []string{"linux/amd64", "LINUX/AMD64", "linux/x86_64", "amd64"} {
			ids[d.submit(puller.PullRequest{Image: good, Platform: given, IdempotencyKey: "pull"}).ID] = true
			j, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good, Platform: given}, {Image: good}}, Platform: given, IdempotencyKey: "prewarm"})
			if err != nil {
				t.Fatal(err)
			}
			ids[j.ID] = true
		}
		if len(ids) != 2 {
			d.Errorf("there are the jobs %v", ids)
		}
	})
}
