package collect_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/keeper"
)

// everything is removed that may be.
var everything = collect.Options{Collect: collect.All, High: .02, Low: .01, Interval: 1e6 * time.Hour, MaxPerCycle: 100}

// shared is an image that is in several sets, and its digests of yesterday and of today.
type shared struct {
	*host
	keeper.Keeper
	tag      string
	old, new puller.Image
}

func withShared(t *testing.T, test func(s *shared)) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		withHost(t, use, everything, func(h *host) {
			tag := image(0)
			s := &shared{host: h, Keeper: h.keeper(), tag: tag, old: newImage(tag, 1), new: newImage(tag, 2)}
			s.serve(s.old)
			h.scripted.Script(s.pinned(s.old), enginetest.Serve(s.old))
			h.scripted.Script(s.pinned(s.new), enginetest.Serve(s.new))
			test(s)
		})
	})
}

// serve has the tag stand for an image in the registry.
func (s *shared) serve(i puller.Image) { s.scripted.Script(s.tag, enginetest.Serve(i)) }

// pinned returns how the engine calls an image by its digest.
func (s *shared) pinned(i puller.Image) string {
	return "registry.test/imagea@" + enginetest.Digest(i)
}

func (s *shared) put(name, schedule string, images ...puller.PullRequest) {
	s.Helper()
	if _, err := s.PutSet(name, keep.SetRequest{Images: images, Schedule: schedule}); err != nil {
		s.Fatal(err)
	}
	synctest.Wait()
}

// stands checks how the only image of a set stands.
func (s *shared) stands(set string, state keep.SetState, digest string) {
	s.Helper()
	synctest.Wait()
	v, err := s.Set(set)
	if err != nil {
		s.Fatal(err)
	}
	if i := v.Images[0]; i.State != state || i.Digest != digest {
		s.Errorf("the image of %s is %s at %q (%s), not %s at %s", set, i.State, i.Digest, i.Reason, state, digest)
	}
}

// pulls returns how often the engine pulled in a time.
func (s *shared) pulls(in time.Duration) int {
	before := s.scripted.Counts().Pulls
	<-time.After(in)
	synctest.Wait()
	return s.scripted.Counts().Pulls - before
}

// One set pins a digest, and another one follows the tag.
func TestSharedPinned(t *testing.T) {
	for _, came := range []string{"first", "by the tag"} {
		t.Run(came, func(t *testing.T) {
			withShared(t, func(s *shared) {
				pin := puller.PullRequest{Image: "registry.test/imagea:v1@" + enginetest.Digest(s.old), Policy: puller.PolicyMissing}
				if came == "first" {
					s.put("pinned", "", pin)
				}
				s.put("app", "@every 1h", puller.PullRequest{Image: s.tag})
				s.put("pinned", "", pin)
				<-time.After(10 * time.Minute)
				s.serve(s.new)
				<-time.After(30 * time.Second) // since the last look
				if _, err := s.RefreshSet("app"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if done := s.collect(false); len(done.Removed) > 0 {
					t.Errorf("removed are %q", names(done.Removed))
				}
				<-time.After(10 * time.Minute)
				s.stands("pinned", keep.SetPresent, enginetest.Digest(s.old))
				s.stands("app", keep.SetPresent, enginetest.Digest(s.new))
				for _, one := range []puller.Image{s.old, s.new} {
					if !s.scripted.Has(s.pinned(one)) {
						t.Errorf("%s is not there", s.pinned(one))
					}
				}
				if n := s.pulls(2 * time.Hour); n > 2 {
					t.Errorf("in two hours of 2 refreshes there were %d pulls", n)
				}
				if _, err := s.DeleteSet("pinned"); err != nil {
					t.Fatal(err)
				}
				if done := s.collect(false); len(done.Removed) != 1 || s.scripted.IDOf(s.tag) == "" {
					t.Errorf("what no set names any more: %+v", done.Removed)
				}
			})
		})
	}
}

// Two sets follow one tag, one of them more often.
func TestSharedTag(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyNewer, puller.PolicyMissing} {
		t.Run(string(policy), func(t *testing.T) {
			withShared(t, func(s *shared) {
				s.put("seldom", "@every 24h", puller.PullRequest{Image: s.tag, Policy: policy})
				s.put("often", "@every 1h", puller.PullRequest{Image: s.tag})
				<-time.After(10 * time.Minute)
				s.serve(s.new)
				<-time.After(2 * time.Hour)
				for _, set := range []string{"seldom", "often"} {
					s.stands(set, keep.SetPresent, enginetest.Digest(s.new))
				}
				if done := s.collect(false); len(done.Removed) != 1 || s.scripted.IDOf(s.tag) == "" {
					t.Errorf("what no set names any more: %+v", done.Removed)
				}
				if n := s.pulls(2 * time.Hour); n > 2 {
					t.Errorf("in two hours of 2 refreshes there were %d pulls", n)
				}
			})
		})
	}
}

// The fleet keeps a tag at a digest, and a set of this host follows it in the registry.
func TestSharedFleet(t *testing.T) {
	withShared(t, func(s *shared) {
		r := keep.SetRequest{Images: puller.Images{{Image: "registry.test/imagea:v1@" + enginetest.Digest(s.old)}}, Policy: puller.PolicyMissing}
		if err := s.PutOfFleet("fleet.app", r, map[string]string{s.tag: enginetest.Digest(s.old)}); err != nil {
			t.Fatal(err)
		}
		go func() { // as the fleet does
			for {
				select {
				case <-s.Context().Done():
					return
				case <-time.After(time.Minute):
				}
				if s.scripted.IDOf(s.tag) != s.scripted.IDOf(s.pinned(s.old)) {
					s.scripted.Tag(s.tag, s.old)
				}
			}
		}()
		s.serve(s.new)
		s.put("app", "@every 1h", puller.PullRequest{Image: s.tag})
		<-time.After(time.Hour)
		s.stands("fleet.app", keep.SetPresent, enginetest.Digest(s.old))
		s.stands("app", keep.SetPresent, enginetest.Digest(s.old))
		if n := s.pulls(2 * time.Hour); n > 2 {
			t.Errorf("in two hours of 2 refreshes there were %d pulls", n)
		}
	})
}

// Two sets have a tag for different platforms, and the engine keeps one image of a name.
func TestSharedPlatforms(t *testing.T) {
	withShared(t, func(s *shared) {
		s.old.Platform, s.new.Platform = "linux/amd64", "linux/arm64"
		s.scripted.Script(s.tag, func(p *enginetest.Pull) {
			for _, i := range []puller.Image{s.old, s.new} {
				if i.Platform == p.Platform {
					enginetest.Serve(i)(p)
				}
			}
		})
		s.put("amd", "", puller.PullRequest{Image: s.tag, Platform: "linux/amd64"})
		s.put("arm", "@every 1h", puller.PullRequest{Image: s.tag, Platform: "linux/arm64"})
		<-time.After(time.Hour)
		if n := s.pulls(2 * time.Hour); n != 2 {
			t.Errorf("in two hours of 2 refreshes there were %d pulls", n)
		}
		s.stands("arm", keep.SetPresent, enginetest.Digest(s.new))
		s.stands("amd", keep.SetMissing, "")
		if v, err := s.Set("amd"); err != nil || !strings.Contains(v.Images[0].Reason, "the set arm has its name for another platform (linux/arm64)") {
			t.Errorf("%+v, %v", v, err)
		}
		for _, c := range s.told() {
			t.Errorf("it is told that %+v", c)
		}
	})
}
