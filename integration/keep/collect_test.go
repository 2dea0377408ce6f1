package keep_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/stream/pullstream"
)

// small is an engine on a small disk of its own, with a towline that collects.
type small struct {
	*testing.T
	engine  *lab.Engine
	host    string // of the engine, for towline
	dir     string
	towline *lab.Towline
	client  *client.Client
}

func newSmall(t *testing.T, config string) *small {
	t.Helper()
	s := &small{T: t, engine: lab.NeedPrivate(t, lab.PrivateOptions{DiskMiB: 300})}
	s.host = s.engine.Host
	var err error
	if s.dir, err = os.MkdirTemp(site.dir, "c"); err != nil {
		t.Fatal(err)
	}
	s.start(config)
	t.Cleanup(func() {
		s.client.Close()
		if err := s.towline.Stop(); err != nil {
			t.Errorf("the daemon did not end well: %v", err)
		}
		if t.Failed() {
			t.Log(s.towline.Log())
		}
	})
	return s
}

// start starts towline on the state of the one before.
func (s *small) start(config string) {
	s.Helper()
	var err error
	if s.towline, err = lab.StartTowline(s.Context(), site.bin, s.dir, lab.TowlineOptions{EngineHost: s.host, Config: config}); err != nil {
		s.Fatal(err)
	}
	if s.client, err = client.New(s.towline.Host, ""); err != nil {
		s.Fatal(err)
	}
}

// publish puts a new image of one layer into the registry.
func (s *small) publish(repo string, mib int64) (ref string) {
	s.Helper()
	image, err := lab.RandomImage(seeds.Add(1), 1, mib<<20, "linux/amd64")
	if err == nil {
		_, err = site.registry.Push(s.Context(), repo, "v1", image)
	}
	if err != nil {
		s.Fatal(err)
	}
	return site.registry.Ref(repo, "v1")
}

func (s *small) pull(ref string, policy puller.Policy) error {
	s.Helper()
	_, err := s.client.Pull(s.Context(), client.PullRequest{Image: ref, Policy: policy})
	return err
}

// others has another client of the engine pull an image.
func (s *small) others(ref string) {
	s.Helper()
	e, err := docker.New(docker.Options{Host: s.engine.Host})
	if err != nil {
		s.Fatal(err)
	}
	defer e.Close()
	if err := e.Pull(s.Context(), puller.Pull{Image: ref}, func(pullstream.Message) {}); err != nil {
		s.Fatal(err)
	}
}

func (s *small) has(ref string) bool {
	s.Helper()
	has, err := s.engine.HasImage(s.Context(), ref)
	if err != nil {
		s.Fatal(err)
	}
	return has
}

func (s *small) disk() puller.Disk {
	s.Helper()
	info, err := s.client.Engine(s.Context())
	if err != nil || info.Disk == nil {
		s.Fatalf("the disk is %v: %v", info.Disk, err)
	}
	return *info.Disk
}

// contain creates a container of an image, which is never started.
func (s *small) contain(ref string) {
	s.Helper()
	body := strings.NewReader(`{"Image":"` + ref + `","Cmd":["/none"]}`)
	resp, err := s.engine.Do(s.Context(), http.MethodPost, "/containers/create", http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		s.Fatalf("creating a container: %s", resp.Status)
	}
}

// A small disk is filled. What fits after a collection is pulled, and what does not is
// refused before a byte of it is fetched.
func TestSmallDisk(t *testing.T) {
	const config = "keep: {collect: own, high: 70%, low: 50%, reserve: 16MiB, min_age: 0s, interval: 1h}\n"
	s := newSmall(t, config)
	theirs := s.publish("theirs", 8)
	s.others(theirs)
	moved := s.publish("moved", 8)
	if err := s.pull(moved, puller.PolicyMissing); err != nil {
		t.Fatal(err)
	}
	old, err := s.engine.ImageID(t.Context(), moved)
	if err != nil {
		t.Fatal(err)
	}
	// Its record is made now, while the image has its name.
	if _, _, err := s.client.Images().List(t.Context(), keep.ImageFilter{}); err != nil {
		t.Fatal(err)
	}
	s.publish("moved", 8)
	if err := s.pull(moved, puller.PolicyAlways); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for d := s.disk(); d.Used() < .6; d = s.disk() {
		ref := s.publish("fill"+string(rune('a'+len(refs))), 24)
		if err := s.pull(ref, puller.PolicyMissing); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	s.contain(refs[0])
	lease, err := s.client.Leases().Add(t.Context(), client.LeaseRequest{Images: []string{refs[1]}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Sets().Put(t.Context(), "web", client.SetRequest{Images: []client.PullRequest{{Image: refs[2]}}, Policy: puller.PolicyMissing}); err != nil {
		t.Fatal(err)
	}

	owners := make(map[string]keep.Owner)
	page, _, err := s.client.Images().List(t.Context(), keep.ImageFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range page {
		owners[i.ID] = i.Owner
		if i.Unique == nil || *i.Unique < 7<<20 {
			t.Errorf("%v would free %v", i.Names, i.Unique)
		}
		if slices.Contains(i.Names, theirs) != (i.Owner == keep.OwnerOther) {
			t.Errorf("%v is of %s", i.Names, i.Owner)
		}
	}
	if len(page) != len(refs)+3 || owners[old] != keep.OwnerTowline {
		t.Errorf("there are %d images, and the one that has lost its name is of %q", len(page), owners[old])
	}

	plan, err := s.client.Images().Collect(t.Context(), true)
	if err != nil || len(plan.Removed) == 0 || plan.Removed[0].ID != old {
		t.Fatalf("the plan is %+v: %v", plan, err)
	}
	done, err := s.client.Images().Collect(t.Context(), false)
	if err != nil || done.Blocked != "" || done.After.Used() > .5 || done.Removed[0].ID != old {
		t.Fatalf("it is %+v: %v", done, err)
	}
	for _, ref := range []string{theirs, refs[0], refs[1], refs[2], refs[len(refs)-1]} {
		if !s.has(ref) {
			t.Errorf("%s was removed", ref)
		}
	}
	if s.has(old) || s.has(refs[3]) {
		t.Error("the image that was not used for longest is there")
	}

	// It does not fit without a collection. Random layers take on the disk what they take on
	// the way, which was learned by now.
	if _, err := s.client.Leases().End(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	large := s.publish("large", (s.disk().Free*6/10)>>20)
	if err := s.pull(large, puller.PolicyMissing); err != nil {
		t.Fatal(err)
	}
	if !s.has(large) || s.has(refs[1]) || !s.has(refs[2]) || !s.has(refs[0]) || !s.has(theirs) {
		t.Error("it was not collected for the pull")
	}

	huge := s.publish("huge", 150)
	site.registry.ResetCounts()
	err = s.pull(huge, puller.PolicyMissing)
	if puller.KindOf(err) != puller.ErrNoSpace || !strings.Contains(err.Error(), "157.3MB to fetch") || !strings.Contains(err.Error(), "used by containers") {
		t.Errorf("the error is %v", err)
	}
	layers, err := site.registry.Layers(t.Context(), huge)
	if err != nil {
		t.Fatal(err)
	}
	if n := site.registry.Counts().BlobBytes[layers[0]]; n != 0 {
		t.Errorf("%d bytes of the layer were fetched", n)
	}
	if !s.has(refs[0]) || !s.has(theirs) || !s.has(large) {
		t.Error("for a pull that can't fit, an image was removed")
	}
	t.Run("killed", s.testKill)
}

// testKill kills a daemon while it collects: it has removed nothing that is needed, and the
// next one goes on.
func (s *small) testKill(t *testing.T) {
	const config = "keep: {collect: own, high: 90%, low: 1%, reserve: 0MiB, min_age: 0s, interval: 1h}\n"
	var refs []string
	for n := range 5 {
		refs = append(refs, s.publish("kill"+string(rune('a'+n)), 2))
		if err := s.pull(refs[n], puller.PolicyMissing); err != nil {
			t.Fatal(err)
		}
	}
	s.contain(refs[3])
	if _, _, err := s.client.Images().List(t.Context(), keep.ImageFilter{}); err != nil {
		t.Fatal(err)
	}
	if err := s.towline.Stop(); err != nil { // what it knows is on disk
		t.Fatal(err)
	}
	s.client.Close()
	s.start(config)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		resp, err := s.towline.Do(ctx, http.MethodPost, "/v1/collections", nil, nil)
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(new(keep.Collection))
			resp.Body.Close()
		}
		answered <- err
	}()
	if err := lab.Poll(t.Context(), time.Millisecond, func(context.Context) error {
		if s.has(refs[0]) {
			return os.ErrExist
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.towline.Kill()
	<-answered
	s.client.Close()
	s.start(config)
	done, err := s.client.Images().Collect(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for n, ref := range refs {
		if s.has(ref) != (n == 3) {
			t.Errorf("%s is there: %t; the second collection has %+v", ref, s.has(ref), done)
		}
	}
}
