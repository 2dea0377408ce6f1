package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// keeper answers with its fields, and notes what it is asked.
type keeper struct {
	images   []keep.Image
	next     string
	done     keep.Collection
	err      error
	filter   keep.ImageFilter
	dryRun   bool
	collects int
}

func (k *keeper) Images(_ context.Context, f keep.ImageFilter) ([]keep.Image, string, error) {
	k.filter = f
	return k.images, k.next, k.err
}

func (k *keeper) Collect(_ context.Context, dryRun bool) (keep.Collection, error) {
	k.dryRun = dryRun
	k.collects++
	return k.done, k.err
}

// ask makes a call of an API with a keeper.
func ask(t *testing.T, k keep.Collector, method, path, body string) (int, string) {
	t.Helper()
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true, Images: k}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	contracttest.Wrap(t, api.New(nil, o)).ServeHTTP(w, r)
	answer, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(answer)
}

func TestImages(t *testing.T) {
	unique, yes, at := int64(1000), true, time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	k := &keeper{next: "sha256:2", images: []keep.Image{
		{
			ID: "sha256:1", Names: []string{"docker.io/library/redis:7"}, Digest: "sha256:3", Size: 3000, Unique: &unique, Owner: keep.OwnerTowline,
			CreatedAt: at, ArrivedAt: at, UsedAt: at, Sets: []string{"web"}, Leases: []string{"01J"}, Containers: []keep.Container{{ID: "c", Name: "cache", Running: true}},
			Kept: []keep.Kept{{Reason: keep.ReasonContainer, Detail: "cache"}, {Reason: keep.ReasonParent}},
		},
		{ID: "sha256:2", Names: []string{}, Owner: keep.OwnerOther, ArrivedAt: at, Sets: []string{}, Leases: []string{}, Containers: []keep.Container{}, Collectable: true},
	}}
	code, body := ask(t, k, "GET", "/v1/images?owner=towline&image=redis&set=web&reason=set&collectable=true&limit=2&cursor=sha256:0", "")
	var got struct {
		Images []keep.Image
		Next   string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatal(code, body, err)
	}
	if diff := cmp.Diff(k.images, got.Images); diff != "" || got.Next != "sha256:2" {
		t.Errorf("next is %q; %s", got.Next, diff)
	}
	want := keep.ImageFilter{Owner: keep.OwnerTowline, Image: "redis", Set: "web", Reason: keep.ReasonSet, Collectable: &yes, Limit: 2, Cursor: "sha256:0"}
	if diff := cmp.Diff(want, k.filter); diff != "" {
		t.Error(diff)
	}
	for query, field := range map[string]string{"owner=me": "owner", "limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "collectable=perhaps": "collectable", "reason=nobody": "reason", "nope=1": "nope"} {
		if code, body := ask(t, k, "GET", "/v1/images?"+query, ""); code != http.StatusBadRequest || !strings.Contains(body, field) {
			t.Errorf("%s: %d, %s", query, code, body)
		}
	}
	t.Run("engine away", func(t *testing.T) {
		k := &keeper{err: puller.Errorf(puller.ErrEngineUnavailable, "it is away")}
		if code, body := ask(t, k, "GET", "/v1/images", ""); code != http.StatusServiceUnavailable {
			t.Error(code, body)
		}
	})
	t.Run("none", func(t *testing.T) {
		if code, body := ask(t, nil, "GET", "/v1/images", ""); code != http.StatusNotFound {
			t.Error(code, body)
		}
	})
}

func TestCollections(t *testing.T) {
	freed := int64(2000)
	k := &keeper{done: keep.Collection{
		DryRun: true, Before: &puller.Disk{Total: 10, Free: 1}, After: &puller.Disk{Total: 10, Free: 3}, Blocked: "the disk is full",
		Removed: []keep.CollectedImage{{ID: "sha256:1", Names: []string{"docker.io/library/redis:7"}, Freed: &freed, Why: "high"}},
		Stayed:  []keep.KeptBack{{ID: "sha256:2", Names: []string{}, Size: 5, Kept: []keep.Kept{{Reason: keep.ReasonNotNeeded}}}},
	}}
	for query, dryRun := range map[string]bool{"": false, "?dry_run=false": false, "?dry_run=true": true} {
		code, body := ask(t, k, "POST", "/v1/collections"+query, "")
		var got keep.Collection
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || k.dryRun != dryRun {
			t.Fatal(code, body, err)
		}
		if diff := cmp.Diff(k.done, got); diff != "" {
			t.Error(diff)
		}
	}
	before := k.collects
	for query, body := range map[string]string{"?dry_run=perhaps": "", "?plan=true": "", "?dry_run=true ": ""} {
		if code, answer := ask(t, k, "POST", "/v1/collections"+strings.ReplaceAll(query, " ", "%20"), body); code != http.StatusBadRequest {
			t.Errorf("%s: %d, %s", query, code, answer)
		}
	}
	if k.collects != before {
		t.Error("a bad request has collected")
	}
	k.err = puller.Errorf(puller.ErrConflict, "keep.collect is off")
	if code, body := ask(t, k, "POST", "/v1/collections", ""); code != http.StatusConflict {
		t.Error(code, body)
	}
	if code, body := ask(t, nil, "POST", "/v1/collections", ""); code != http.StatusNotFound {
		t.Error(code, body)
	}
}
