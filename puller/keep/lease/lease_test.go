package lease_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep"
)

func TestLease(t *testing.T) {
	withHost(t, func(h *host) {
		image := enginetest.NewImage(good, 1)
		h.engine.Tag(good, image)
		now := time.Now()
		l, err := h.AddLease(h.Context(), with(keep.LeaseRequest{Images: []string{"alpine", good, "docker.io/library/alpine:latest"}, TTL: "2h", Note: "a build"}, func(r *keep.LeaseRequest) { r.Caller = "ci" }))
		if err != nil {
			h.Fatal(err)
		}
		if _, err := ulid.ParseStrict(l.ID); err != nil {
			h.Error(err)
		}
		want := keep.Lease{
			ID: l.ID, Images: []string{"docker.io/library/alpine:latest", good}, ImageIDs: []string{image.ID}, Note: "a build",
			TTLSeconds: 7200, CreatedAt: now.UTC(), ExpiresAt: now.Add(2 * time.Hour).UTC(),
		}
		if diff := cmp.Diff(want, l); diff != "" {
			h.Errorf("-want +got:\n%s", diff)
		}
		for range 2 {
			got, err := h.Lease(l.ID)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				h.Errorf("%v, -want +got:\n%s", err, diff)
			}
			h.protects("sha256:1", []string{"docker.io/library/alpine:latest"}, l.ID)
			h.protects("sha256:1", []string{"docker.io/library/alpine:3.20"})
			h.protects(image.ID, nil, l.ID) // also where the name has moved
			h.protects("", nil)
			h.crash()
		}
		<-time.After(2*time.Hour - time.Second)
		h.protects(image.ID, nil, l.ID)
		<-time.After(time.Second)
		h.protects(image.ID, nil)
		<-time.After(time.Minute)
		h.gone(l.ID)
	})
}

func TestDigests(t *testing.T) {
	withHost(t, func(h *host) {
		digest := "sha256:" + strings.Repeat("a", 64)
		l := h.add("1h", "registry.test/good:v1@"+digest, "sha256:"+strings.Repeat("b", 64))
		h.protects("sha256:1", []string{"registry.test/good@" + digest}, l.ID)
		h.protects("sha256:1", []string{"registry.test/other@" + digest})
		h.protects("sha256:1", []string{good})
		h.protects("sha256:"+strings.Repeat("b", 64), nil, l.ID)
	})
}

func TestRenew(t *testing.T) {
	withHost(t, func(h *host) {
		l := h.add("1h", good)
		<-time.After(59 * time.Minute)
		renewed, err := h.RenewLease(l.ID, "30m")
		if err != nil || renewed.TTLSeconds != 1800 || !renewed.ExpiresAt.Equal(time.Now().Add(30*time.Minute)) || !renewed.RenewedAt.Equal(time.Now()) {
			h.Errorf("it is %+v, %v", renewed, err)
		}
		h.crash()
		<-time.After(29 * time.Minute)
		h.protects("", []string{good}, l.ID)
		<-time.After(2 * time.Minute)
		h.gone(l.ID)
		if _, err := h.RenewLease(l.ID, "1h"); puller.KindOf(err) != puller.ErrNotFound {
			h.Errorf("an expired one is renewed: %v", err)
		}
	})
}

func TestEnd(t *testing.T) {
	withHost(t, func(h *host) {
		l := h.add("1h", good)
		if ended, err := h.EndLease(l.ID); err != nil || ended.ID != l.ID {
			h.Errorf("it gives %+v, %v", ended, err)
		}
		h.gone(l.ID)
		h.protects("", []string{good})
		if _, err := h.EndLease(l.ID); puller.KindOf(err) != puller.ErrNotFound {
			h.Errorf("once more gives %v", err)
		}
	})
}

func TestList(t *testing.T) {
	withHost(t, func(h *host) {
		var ids []string
		for i := range 5 {
			<-time.After(time.Millisecond)
			image := good
			if i%2 == 1 {
				image = other
			}
			ids = append(ids, h.add("1h", image).ID)
		}
		for name, c := range map[string]struct {
			f    keep.LeaseFilter
			want []int
			next int // index, or -1
		}{
			"all":       {keep.LeaseFilter{}, []int{4, 3, 2, 1, 0}, -1},
			"image":     {keep.LeaseFilter{Image: other}, []int{3, 1}, -1},
			"no_image":  {keep.LeaseFilter{Image: "alpine"}, nil, -1},
			"no_job":    {keep.LeaseFilter{Job: "01"}, nil, -1},
			"limit":     {keep.LeaseFilter{Limit: 2}, []int{4, 3}, 3},
			"next_page": {keep.LeaseFilter{Limit: 2, Cursor: ids[3]}, []int{2, 1}, 1},
			"last_page": {keep.LeaseFilter{Limit: 2, Cursor: ids[1]}, []int{0}, -1},
		} {
			page, next, err := h.Leases.Leases(c.f)
			var got, want []string
			for _, l := range page {
				got = append(got, l.ID)
			}
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				h.Errorf("%s: %v %s", name, err, diff)
			}
			if c.next >= 0 && next != ids[c.next] || c.next < 0 && next != "" {
				h.Errorf("%s: the next page is %q", name, next)
			}
		}
		for _, f := range []keep.LeaseFilter{{Limit: -1}, {Limit: 1001}, {Image: "No"}} {
			if _, _, err := h.Leases.Leases(f); puller.KindOf(err) != puller.ErrInvalidRequest {
				h.Errorf("%+v gives %v", f, err)
			}
		}
	})
}

func TestBadRequests(t *testing.T) {
	withHost(t, func(h *host) {
		many := make([]string, 5000)
		for i := range many {
			many[i] = fmt.Sprintf("registry.test/app-%d", i)
		}
		for field, r := range map[string]keep.LeaseRequest{
			"ttl: missing": {Images: []string{good}},
			"ttl: \"2\"":   {Images: []string{good}, TTL: "2"},
			"ttl: 1s":      {Images: []string{good}, TTL: "1s"},
			"ttl: 1000h":   {Images: []string{good}, TTL: "1000h"},
			"images: miss": {TTL: "1h"},
			"images: 5000": {Images: many, TTL: "1h"},
			"images[1]: ":  {Images: []string{good, "No"}, TTL: "1h"},
			"note: ":       {Images: []string{good}, TTL: "1h", Note: strings.Repeat("n", 1025)},
		} {
			if _, err := h.AddLease(h.Context(), r); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), field) {
				h.Errorf("%s: %v", field, err)
			}
		}
		if _, err := h.RenewLease("01", ""); puller.KindOf(err) != puller.ErrInvalidRequest {
			h.Errorf("no ttl gives %v", err)
		}
		h.store.Fail(errors.New("the disk is broken"))
		if _, err := h.AddLease(h.Context(), keep.LeaseRequest{Images: []string{good}, TTL: "1h"}); err == nil {
			h.Error("what is not on disk is no lease")
		}
		h.protects("", []string{good})
		h.store.Fail(nil)
	})
}

func TestLimits(t *testing.T) {
	withHost(t, func(h *host) {
		images := make([]string, 1000)
		for i := range images {
			images[i] = fmt.Sprintf("sha256:%064d", i) // of which nothing is asked
		}
		for range keep.MaxLeaseImages / len(images) {
			h.add("1h", images...)
		}
		if _, err := h.AddLease(h.Context(), keep.LeaseRequest{Images: []string{good}, TTL: "1h"}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "100000") {
			h.Errorf("one more image gives %v", err)
		}
		<-time.After(62 * time.Minute)
		h.add("1h", good)
	})
}

// TestClock has the system's clock set while there is a lease.
func TestClock(t *testing.T) {
	for name, c := range map[string]struct {
		shift   time.Duration
		restart bool
		over    time.Duration // when the lease has certainly ended
	}{
		"back":            {-365 * 24 * time.Hour, false, 2 * time.Hour},
		"back_restart":    {-365 * 24 * time.Hour, true, 3 * time.Hour},
		"forward":         {3 * time.Hour, false, time.Hour + 2*time.Minute},
		"forward_restart": {3 * time.Hour, true, time.Hour + 2*time.Minute},
		"minutes_back":    {-5 * time.Minute, true, 2*time.Hour + 6*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(h *host) {
				begin := time.Now()
				l := h.add("2h", good)
				<-time.After(time.Hour)
				h.shift.Store(int64(c.shift))
				<-time.After(2 * time.Minute)
				if c.restart {
					h.restart()
				}
				if c.shift < 0 {
					h.protects("", []string{good}, l.ID)
					if l, err := h.Lease(l.ID); err != nil || l.ExpiresAt.Sub(time.Now().Add(c.shift)) > 2*time.Hour {
						h.Errorf("it ends at %s, and it is %s: %v", l.ExpiresAt, time.Now().Add(c.shift), err)
					}
				}
				<-time.After(time.Until(begin.Add(c.over + time.Minute)))
				h.gone(l.ID)
			})
		})
	}
}

func TestRestartOverItsEnd(t *testing.T) {
	withHost(t, func(h *host) {
		short, long := h.add("1h", good), h.add("3h", other)
		h.close()
		h.store = h.store.Reopen()
		<-time.After(2 * time.Hour) // the host is off
		h.open()
		h.protects("", []string{good, other}, long.ID)
		synctest.Wait()
		h.gone(short.ID)
	})
}
