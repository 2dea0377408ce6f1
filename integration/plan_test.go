package integration_test

import (
	"context"
	"io"
	"net/http"
	"path"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/registry"
	"github.com/towline/towline/puller/storetest"
)

// planner is a Puller of this process, over the shared engine.
func planner(t *testing.T) *jobs.Service {
	t.Helper()
	lab.Need(t, site.err)
	engine, err := docker.New(docker.Options{Host: site.engine.Host})
	if err != nil {
		t.Fatal(err)
	}
	images, err := registry.New(registry.Options{AllowPrivate: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	p, err := jobs.New(engine, jobs.Options{Concurrency: 2, Policy: puller.PolicyMissing, Timeout: time.Minute, Registry: images, Store: storetest.New(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		images.Close()
		engine.Close()
	})
	return p
}

func plan(t *testing.T, p *jobs.Service, refs ...string) puller.Plan {
	t.Helper()
	var r puller.PrewarmRequest
	for _, ref := range refs {
		r.Images = append(r.Images, puller.PullRequest{Image: ref})
	}
	planned, err := p.Plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return planned
}

// pullAll pulls the images one after the other, and returns how many bytes of
// layers the registry served for each.
func pullAll(t *testing.T, p *jobs.Service, sizes map[string]int64, refs ...string) (served []int64) {
	t.Helper()
	for _, ref := range refs {
		site.registry.ResetCounts()
		job, err := p.Pull(puller.PullRequest{Image: ref})
		if err == nil {
			job, err = p.Wait(t.Context(), job.ID)
		}
		if err != nil || job.State != puller.StateSucceeded {
			t.Fatalf("%s: %+v %+v, %v", ref, job, job.Error, err)
		}
		bytes := int64(0)
		for asked, times := range site.registry.Counts().ByPath {
			if size, layer := sizes[path.Base(asked)]; layer {
				bytes += size * int64(times)
			}
		}
		served = append(served, bytes)
	}
	return served
}

// put pushes an image, and notes what its layers weigh.
func put(t *testing.T, repo string, image v1.Image, sizes map[string]int64) (ref string) {
	t.Helper()
	lab.Need(t, site.err)
	if _, err := site.registry.Push(t.Context(), repo, "v1", image); err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range manifest.Layers {
		sizes[l.Digest.String()] = l.Size
	}
	ref = site.registry.Ref(repo, "v1")
	t.Cleanup(func() { remove(t, ref) })
	return ref
}

func random(t *testing.T, seed int64, layers int) v1.Image {
	t.Helper()
	image, err := lab.RandomImage(seed, layers, 1<<20+seed, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// The plan is held against what the registry then really serves.
func TestPlanFetches(t *testing.T) {
	sizes := map[string]int64{}
	seed := seeds.Add(1)
	base := put(t, "plan-base", random(t, seed, 2), sizes)
	// Of one seed, the larger image has the smaller one's layers at its bottom.
	grown := put(t, "plan-grown", random(t, seed, 4), sizes)
	more := put(t, "plan-more", random(t, seed, 5), sizes)
	apart := put(t, "plan-apart", random(t, seeds.Add(1), 1), sizes)
	p := planner(t)

	one := plan(t, p, base)
	w := one.Images[0]
	if w.Status != puller.StatusMissing || w.Weight == nil || w.Layers != 2 || w.Fetch != w.Size || one.Fetch != w.Size || !one.Complete {
		t.Fatalf("the plan is %+v", one)
	}
	if one.EngineFree == nil || *one.EngineFree <= 0 || len(one.Notes) != 0 {
		t.Errorf("of an engine on this machine it is not known what is free: %+v", one)
	}
	if served := pullAll(t, p, sizes, base); served[0] != one.Fetch {
		t.Errorf("%d bytes were planned, %d fetched", one.Fetch, served[0])
	}
	site.registry.ResetCounts()
	if one = plan(t, p, base); one.Images[0].Status != puller.StatusPresent || one.Fetch != 0 || one.Images[0].Digest != w.Digest {
		t.Errorf("after the pull the plan is %+v", one)
	}
	if n := site.registry.Counts(); n.ManifestHeads+n.ManifestGets+n.BlobGets != 0 {
		t.Errorf("for an image that is present the registry was asked %+v", n)
	}

	all := plan(t, p, grown, more, apart)
	first, second, third := all.Images[0], all.Images[1], all.Images[2]
	if first.LayersPresent != 2 || first.LayersShared != 0 || first.Size-first.Fetch != w.Size {
		t.Errorf("on a base that is present it is %+v", first.Weight)
	}
	if second.LayersPresent != 2 || second.LayersShared != 2 || third.LayersPresent+third.LayersShared != 0 {
		t.Errorf("with what is shared it is %+v, without %+v", second.Weight, third.Weight)
	}
	if all.Present != 2*w.Size || all.Shared != first.Fetch || all.Fetch != first.Fetch+second.Fetch+third.Fetch || !all.Complete {
		t.Errorf("the plan is %+v", all)
	}
	for i, served := range pullAll(t, p, sizes, grown, more, apart) {
		if want := all.Images[i].Fetch; served != want {
			t.Errorf("of %s %d bytes were planned, %d fetched", all.Images[i].Image, want, served)
		}
	}
}

// An engine with a graph driver throws blobs away once they are unpacked: it
// fetches one again that is to lie on other layers.
func TestPlanFetchedAgain(t *testing.T) {
	sizes := map[string]int64{}
	straight := random(t, seeds.Add(1), 2)
	layers, err := straight.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := straight.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	bare := config.DeepCopy()
	bare.History, bare.RootFS.DiffIDs = nil, nil
	start, err := mutate.ConfigFile(empty.Image, bare)
	if err != nil {
		t.Fatal(err)
	}
	// Upside down, and with one layer twice.
	turned, err := mutate.AppendLayers(start, layers[1], layers[0], layers[1])
	if err != nil {
		t.Fatal(err)
	}
	refs := []string{put(t, "plan-straight", straight, sizes), put(t, "plan-turned", turned, sizes)}
	p := planner(t)
	planned := plan(t, p, refs...)
	for i, served := range pullAll(t, p, sizes, refs...) {
		if want := planned.Images[i].Fetch; served != want {
			t.Errorf("of %s %d bytes were planned, %d fetched: %+v", refs[i], want, served, planned.Images[i].Weight)
		}
	}
}

func TestPlanSaysWhatWouldFail(t *testing.T) {
	sizes := map[string]int64{}
	good := put(t, "plan-good", random(t, seeds.Add(1), 1), sizes)
	limited := put(t, "plan-limited", random(t, seeds.Add(1), 1), sizes)
	site.registry.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if path.Base(path.Dir(path.Dir(r.URL.Path))) != "plan-limited" {
			return false
		}
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	defer site.registry.Heal()
	p := planner(t)
	request := puller.PrewarmRequest{Images: puller.Images{
		{Image: good},
		{Image: site.registry.Ref("plan-nope", "v1")},
		{Image: good, Platform: "linux/s390x"},
		{Image: limited},
		{Image: "127.0.0.1:1/down:v1"},
		{Image: good, Policy: puller.PolicyNever},
	}}
	planned, err := p.Plan(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []puller.ErrorKind{"", puller.ErrNotFound, puller.ErrPlatformMismatch, puller.ErrRateLimited, puller.ErrRegistryUnavailable, puller.ErrNotFound} {
		one := planned.Images[i]
		if one.Status != puller.StatusMissing || (one.Error == nil) != (kind == "") || kind != "" && one.Error.Kind != kind {
			t.Errorf("image %d is %+v, %+v", i, one, one.Error)
		}
	}
	if planned.Complete || planned.Fetch != planned.Images[0].Size {
		t.Errorf("the plan is %+v", planned)
	}
}
