package integration_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// pushIndex puts a new index of images of one small layer into the registry, and
// returns its name and digest, and the digest of each image's configuration.
func pushIndex(t *testing.T, repo string, platforms ...string) (ref, digest string, configs map[string]string) {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	configs = make(map[string]string)
	for _, platform := range platforms {
		image, err := lab.RandomImage(seeds.Add(1), 1, 1<<10, platform)
		if err != nil {
			t.Fatal(err)
		}
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		configs[platform] = config.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
	}
	digest, err := site.registry.Push(t.Context(), repo, "v1", index)
	if err != nil {
		t.Fatal(err)
	}
	return site.registry.Ref(repo, "v1"), digest, configs
}

// pulled checks a pull that is to succeed.
func pulled(t *testing.T, c *client.Client, r client.PullRequest, want puller.Result) {
	t.Helper()
	job, err := c.Pull(t.Context(), r)
	if err != nil {
		t.Errorf("%+v: %v", r, err)
		return
	}
	if got := job.Result; got.Source != want.Source || got.Digest != want.Digest || got.ImageID != want.ImageID {
		t.Errorf("%+v: the result is %+v, not %+v", r, got, want)
	}
}

// refused checks a pull that is to fail.
func refused(t *testing.T, c *client.Client, r client.PullRequest, kind puller.ErrorKind) {
	t.Helper()
	if job, err := c.Pull(t.Context(), r); puller.KindOf(err) != kind {
		t.Errorf("%+v: %+v, %v, not %s", r, job.Result, err, kind)
	}
}

// An engine with a graph driver leaves the digest of an index with the platform that
// came first.
func TestProofOfPlatforms(t *testing.T) {
	lab.Need(t, site.err)
	ref, digest, ids := pushIndex(t, "platforms", "linux/amd64", "linux/arm64", "linux/arm/v6")
	_, c := daemon(t)
	t.Cleanup(func() {
		remove(t, ref)
		for _, id := range ids {
			remove(t, id)
		}
	})
	for _, platform := range []string{"linux/amd64", "linux/arm64", "linux/arm/v6", "linux/amd64"} {
		pulled(t, c, client.PullRequest{Image: ref, Platform: platform, Policy: puller.PolicyAlways}, puller.Result{Source: puller.SourcePulled, Digest: digest, ImageID: ids[platform]})
		for policy, source := range map[puller.Policy]puller.Source{puller.PolicyMissing: puller.SourcePresent, puller.PolicyNewer: puller.SourceUpToDate} {
			pulled(t, c, client.PullRequest{Image: ref, Platform: platform, Policy: policy}, puller.Result{Source: source, Digest: digest, ImageID: ids[platform]})
		}
	}
	// Under the digest there is the first one only, and this engine keeps it so.
	byDigest := site.registry.Addr() + "/platforms@" + digest
	pulled(t, c, client.PullRequest{Image: byDigest, Platform: "linux/amd64"}, puller.Result{Source: puller.SourcePresent, Digest: digest, ImageID: ids["linux/amd64"]})
	refused(t, c, client.PullRequest{Image: byDigest, Platform: "linux/arm64"}, puller.ErrConflict)
}

// Podman tells no digest in its stream and no variant of an image, and finds
// NAME@DIGEST by the digest alone.
func TestPodmansImagesAreProven(t *testing.T) {
	podman := lab.NeedPodman(t, site.registry.Addr())
	_, c := daemonWith(t, lab.TowlineOptions{EngineHost: podman.Host})
	ref, digest, ids := pushIndex(t, "podman", "linux/amd64", "linux/arm64", "linux/arm/v6")
	for _, platform := range []string{"linux/amd64", "linux/arm/v6", "linux/arm64", "linux/amd64"} {
		pulled(t, c, client.PullRequest{Image: ref, Platform: platform, Policy: puller.PolicyAlways}, puller.Result{Source: puller.SourcePulled, Digest: digest, ImageID: ids[platform]})
		pulled(t, c, client.PullRequest{Image: ref, Platform: platform}, puller.Result{Source: puller.SourcePresent, Digest: digest, ImageID: ids[platform]})
	}
	pulled(t, c, client.PullRequest{Image: ref, Policy: puller.PolicyAlways}, puller.Result{Source: puller.SourceUpToDate, Digest: digest, ImageID: ids["linux/amd64"]})
	byDigest := site.registry.Addr() + "/podman@" + digest
	for _, platform := range []string{"linux/arm64", "linux/amd64"} {
		pulled(t, c, client.PullRequest{Image: byDigest, Platform: platform, Policy: puller.PolicyAlways}, puller.Result{Source: puller.SourcePulled, Digest: digest, ImageID: ids[platform]})
	}
	// What is in its store under this name is not there under another one.
	for _, name := range []string{site.registry.Addr() + "/team/app", "registry.invalid/team/app"} {
		for _, policy := range []puller.Policy{puller.PolicyNever, puller.PolicyMissing} {
			if job, err := c.Pull(t.Context(), client.PullRequest{Image: name + "@" + digest, Policy: policy, Retries: new(int)}); err == nil {
				t.Errorf("%s, %s: %+v", name, policy, job.Result)
			}
		}
		refused(t, c, client.PullRequest{Image: name + "@" + digest, Policy: puller.PolicyNever}, puller.ErrNotFound)
	}
}

// Podman takes no registry without TLS that it is not told of: pulls are not accelerated, and
// come all the same.
func TestPodmanIsNotAccelerated(t *testing.T) {
	podman := lab.NeedPodman(t, site.registry.Addr())
	_, c := daemonWith(t, lab.TowlineOptions{EngineHost: podman.Host, Config: "mirror: {mode: alias, listen: \"127.0.0.1:0\", min_size: 0MiB}\n"})
	ref, _, _ := pushIndex(t, "podman-plain", "linux/amd64")
	job, err := c.Pull(t.Context(), client.PullRequest{Image: ref, Policy: puller.PolicyAlways})
	if err != nil {
		t.Fatal(err)
	}
	how := job.Result.Accelerated
	if how == nil || how.Way != puller.WayNone || !strings.Contains(how.Reason, "the engine can't pull from 127.0.0.1:") {
		t.Errorf("%+v", how)
	}
}
