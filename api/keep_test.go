package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// setKeeper answers with its fields, and notes what it is asked.
type setKeeper struct {
	puller.Service
	set    keep.Set
	faults []keep.SetFault
	lease  keep.Lease
	job    puller.Job
	err    error

	asked   string
	put     keep.SetRequest
	leased  keep.LeaseRequest
	filter  keep.LeaseFilter
	renewal string
}

func (k *setKeeper) Sets() ([]keep.Set, []keep.SetFault) { return []keep.Set{k.set}, k.faults }

func (k *setKeeper) Set(name string) (keep.Set, error) {
	k.asked = "set " + name
	return k.set, k.err
}

func (k *setKeeper) PutSet(name string, r keep.SetRequest) (keep.Set, error) {
	k.asked, k.put = "put "+name, r
	return k.set, k.err
}

func (k *setKeeper) DeleteSet(name string) (keep.Set, error) {
	k.asked = "delete " + name
	return k.set, k.err
}

func (k *setKeeper) RefreshSet(name string) (puller.Job, error) {
	k.asked = "refresh " + name
	return k.job, k.err
}

func (k *setKeeper) Wait(context.Context, string) (puller.Job, error) {
	done := k.job
	done.State, done.FinishedAt = puller.StateSucceeded, done.CreatedAt
	return done, nil
}

func (k *setKeeper) Leases(f keep.LeaseFilter) ([]keep.Lease, string, error) {
	k.filter = f
	return []keep.Lease{k.lease}, k.lease.ID, k.err
}

func (k *setKeeper) Lease(id string) (keep.Lease, error) {
	k.asked = "lease " + id
	return k.lease, k.err
}

func (k *setKeeper) AddLease(_ context.Context, r keep.LeaseRequest) (keep.Lease, error) {
	k.leased = r
	return k.lease, k.err
}

func (k *setKeeper) RenewLease(id, ttl string) (keep.Lease, error) {
	k.asked, k.renewal = "renew "+id, ttl
	return k.lease, k.err
}

func (k *setKeeper) EndLease(id string) (keep.Lease, error) {
	k.asked = "end " + id
	return k.lease, k.err
}

// call makes a call of an API with the keeper.
func (k *setKeeper) call(t *testing.T, method, path, media, body string) (int, string) {
	t.Helper()
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true}
	if k != nil {
		o.Keeper = k
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", media)
	}
	contracttest.Wrap(t, api.New(k, o)).ServeHTTP(w, r)
	answer, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(answer)
}

const ulid = "01KAKM00000000000000000001"

var keptAt = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func newSetKeeper() *setKeeper {
	return &setKeeper{
		set: keep.Set{
			Name: "web", Source: keep.SetFromAPI, Schedule: "0 5 * * *", Policy: puller.PolicyNewer, Protect: true, Priority: puller.PriorityLow, ChangedAt: keptAt,
			Counts: map[keep.SetState]int{keep.SetPresent: 1},
			Images: []keep.SetImage{{Image: "docker.io/library/redis:7", State: keep.SetPresent, CheckedAt: keptAt, Job: ulid}},
		},
		faults: []keep.SetFault{{File: "/etc/towline/sets.d/bad.yaml", Error: "schedule: no"}},
		lease:  keep.Lease{ID: ulid, Images: []string{"docker.io/library/redis:7"}, TTLSeconds: 7200, CreatedAt: keptAt, ExpiresAt: keptAt},
		job:    puller.Job{ID: ulid, Kind: puller.JobPrewarm, State: puller.StateActive, Priority: puller.PriorityLow, CreatedAt: keptAt},
	}
}

func TestSets(t *testing.T) {
	k := newSetKeeper()
	for _, c := range []struct {
		method, path, asked string
		status              int
	}{
		{"GET", "/v1/sets", "", 200},
		{"GET", "/v1/sets/web", "set web", 200},
		{"DELETE", "/v1/sets/web", "delete web", 200},
		{"POST", "/v1/sets/web/refresh", "refresh web", 202},
		{"POST", "/v1/sets/web/refresh?wait=true", "refresh web", 200},
		{"GET", "/v1/sets/we%20b", "set we b", 200},
	} {
		k.asked = ""
		code, body := k.call(t, c.method, c.path, "", "")
		if code != c.status || k.asked != c.asked || !strings.Contains(body, `"`) {
			t.Errorf("%s %s: %d, asked %q: %s", c.method, c.path, code, k.asked, body)
		}
	}
	_, body := k.call(t, "GET", "/v1/sets", "", "")
	var list struct {
		Sets   []keep.Set
		Faults []keep.SetFault
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]keep.Set{k.set}, list.Sets) + cmp.Diff(k.faults, list.Faults); diff != "" {
		t.Error(diff)
	}
}

func TestPutSet(t *testing.T) {
	no := false
	yes := true
	for name, c := range map[string]struct {
		media, query, body string
		want               keep.SetRequest
	}{
		"json": {
			"application/json", "", `{"images":["redis:7",{"image":"nginx","platform":"linux/amd64"}],"schedule":"0 5 * * *","timezone":"UTC","jitter":"5m","window":"22:00-06:00","policy":"missing","protect":false,"priority":"high"}`,
			keep.SetRequest{
				Images: puller.Images{{Image: "redis:7"}, {Image: "nginx", Platform: "linux/amd64"}}, Schedule: "0 5 * * *", Timezone: "UTC", Jitter: "5m", Window: "22:00-06:00",
				Policy: puller.PolicyMissing, Protect: &no, Priority: puller.PriorityHigh,
			},
		},
		"least": {"application/json", "", `{"images":["redis:7"]}`, keep.SetRequest{Images: puller.Images{{Image: "redis:7"}}}},
		"compose": {
			"application/yaml", "?schedule=@daily&timezone=UTC&protect=false&policy=missing&priority=normal&var=TAG=7&profile=extra", "services: {db: {image: 'redis:${TAG}'}, more: {image: nginx, profiles: [extra]}, own: {build: .}}",
			with(keep.SetRequest{
				Images: puller.Images{{Image: "docker.io/library/redis:7"}, {Image: "docker.io/library/nginx:latest"}}, Schedule: "@daily", Timezone: "UTC", Policy: puller.PolicyMissing, Protect: &no, Priority: puller.PriorityNormal,
			}, func(r *keep.SetRequest) { r.Skipped = []puller.Skipped{{Service: "own"}} }),
		},
		"compose_alone": {"application/yaml", "", "services: {db: {image: redis}}", keep.SetRequest{Images: puller.Images{{Image: "docker.io/library/redis:latest"}}, Protect: &yes}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newSetKeeper()
			if code, body := k.call(t, "PUT", "/v1/sets/web"+c.query, c.media, c.body); code != http.StatusOK || k.asked != "put web" {
				t.Fatalf("%d, %q: %s", code, k.asked, body)
			}
			for i := range k.put.Skipped {
				k.put.Skipped[i].Reason = ""
			}
			if diff := cmp.Diff(c.want, k.put, cmpopts.EquateEmpty(), ofRequests); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLeases(t *testing.T) {
	k := newSetKeeper()
	code, body := k.call(t, "POST", "/v1/leases", "application/json", `{"images":["redis:7"],"ttl":"2h","note":"a build"}`)
	if diff := cmp.Diff(keep.LeaseRequest{Images: []string{"redis:7"}, TTL: "2h", Note: "a build"}, k.leased, ofRequests); diff != "" || code != http.StatusCreated {
		t.Errorf("%d %s: %s", code, body, diff)
	}
	code, body = k.call(t, "PATCH", "/v1/leases/"+ulid, "application/json", `{"ttl":"30m"}`)
	if code != http.StatusOK || k.asked != "renew "+ulid || k.renewal != "30m" {
		t.Errorf("%d, %q %q: %s", code, k.asked, k.renewal, body)
	}
	code, body = k.call(t, "GET", "/v1/leases?image=redis&job="+ulid+"&limit=5&cursor=x", "", "")
	if code != http.StatusOK || k.filter != (keep.LeaseFilter{Image: "redis", Job: ulid, Limit: 5, Cursor: "x"}) || !strings.Contains(body, `"next":"`+ulid) {
		t.Errorf("%d, %+v: %s", code, k.filter, body)
	}
	for method, asked := range map[string]string{"GET": "lease " + ulid, "DELETE": "end " + ulid} {
		if code, body := k.call(t, method, "/v1/leases/"+ulid, "", ""); code != http.StatusOK || k.asked != asked {
			t.Errorf("%d, %q: %s", code, k.asked, body)
		}
	}
}

func TestBadKeeperCalls(t *testing.T) {
	for name, c := range map[string]struct{ method, path, body, detail string }{
		"field":          {"PUT", "/v1/sets/web", `{"images":["a"],"schedul":"x"}`, "schedul: there is no such field"},
		"protect":        {"PUT", "/v1/sets/web", `{"images":["a"],"protect":"yes"}`, "protect: "},
		"images":         {"PUT", "/v1/sets/web", `{"images":"a"}`, "images: "},
		"many":           {"PUT", "/v1/sets/web", `{"images":["a"` + strings.Repeat(`,"a"`, 4999) + `]}`, "images: 5000 of them"},
		"query":          {"PUT", "/v1/sets/web?schedule=@daily", `{"images":["a"]}`, "schedule: "},
		"no body":        {"PUT", "/v1/sets/web", "", "Content-Type: "},
		"refresh body":   {"POST", "/v1/sets/web/refresh", `{"x":1}`, "x: "},
		"delete body":    {"DELETE", "/v1/sets/web", `{}`, "body: "},
		"lease field":    {"POST", "/v1/leases", `{"images":["a"],"ttl":"1h","for":"x"}`, "for: "},
		"lease ttl":      {"POST", "/v1/leases", `{"images":["a"],"ttl":5}`, "ttl: "},
		"renewal":        {"PATCH", "/v1/leases/" + ulid, `{"TTL":"1h","note":"x"}`, "note: "},
		"limit":          {"GET", "/v1/leases?limit=none", "", "limit: "},
		"leases of jobs": {"GET", "/v1/leases?jobs=1", "", "jobs: "},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			code, body := newSetKeeper().call(t, c.method, c.path, "application/json", c.body)
			var p answers.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || code != http.StatusBadRequest || !strings.HasPrefix(p.Detail, c.detail) {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	t.Run("keeper", func(t *testing.T) {
		k := newSetKeeper()
		for kind, status := range map[puller.ErrorKind]int{puller.ErrConflict: 409, puller.ErrNotFound: 404, puller.ErrForbidden: 403, puller.ErrOverloaded: 503} {
			k.err = puller.Errorf(kind, "no")
			for _, c := range [][3]string{
				{"PUT", "/v1/sets/web", `{"images":["a"]}`}, {"GET", "/v1/sets/web", ""}, {"DELETE", "/v1/sets/web", ""}, {"POST", "/v1/sets/web/refresh", ""},
				{"POST", "/v1/leases", `{"images":["a"],"ttl":"1h"}`}, {"GET", "/v1/leases", ""}, {"GET", "/v1/leases/" + ulid, ""}, {"DELETE", "/v1/leases/" + ulid, ""},
				{"PATCH", "/v1/leases/" + ulid, `{"ttl":"1h"}`},
			} {
				if code, body := k.call(t, c[0], c[1], "application/json", c[2]); code != status {
					t.Errorf("%s %s: %d, not %d: %s", c[0], c[1], code, status, body)
				}
			}
		}
	})
	t.Run("none", func(t *testing.T) {
		var k *setKeeper
		for _, path := range []string{"/v1/sets", "/v1/sets/web", "/v1/leases"} {
			if code, body := k.call(t, "GET", path, "", ""); code != http.StatusNotFound {
				t.Errorf("%d: %s", code, body)
			}
		}
	})
}

// TestKeeping has sets and leases of a real Service.
func TestKeeping(t *testing.T) {
	d := start(t)
	d.good("registry.test/a:v1", 1)
	const body = `{"images":["registry.test/a:v1"],"schedule":"@daily","timezone":"UTC"}`
	if a := d.call("PUT", "/v1/sets/web", body); a.Status != http.StatusOK || !strings.Contains(a.Body, `"refreshing":true`) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	const refresh = "/v1/sets/web/refresh"
	for _, header := range [][]string{nil, asText} {
		if a := d.call("POST", refresh+"?wait=true", "", header...); a.Status != http.StatusOK {
			t.Errorf("%q: %d %s", header, a.Status, a.Body)
		}
	}
	if a := d.call("POST", refresh, "", asText...); a.Status != http.StatusAccepted {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, media := range []string{ndjson, sse} {
		if a := d.call("POST", refresh, "", "Accept", media); a.Status != http.StatusOK || a.Header.Get("Content-Type") != media || !strings.Contains(a.Body, `"type":"result"`) && !strings.Contains(a.Body, "event: result") {
			t.Errorf("%s: %d %s", media, a.Status, a.Body)
		}
	}
	a := d.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/a:v1","lease":"2h"}`)
	id := a.job(t, http.StatusOK).ID
	if a := d.call("GET", "/v1/leases?job="+id, ""); a.Status != http.StatusOK || !strings.Contains(a.Body, `"images":["registry.test/a:v1"]`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, c := range []struct{ method, path, format string }{
		{"PUT", "/v1/sets/other", "{%s}"}, {"POST", "/v1/leases", `{"ttl":"1h"%s}`}, {"POST", "/v1/prewarms", "{%s}"},
	} {
		for _, list := range []string{"", `"images":null`, `"images":[]`} {
			if strings.Contains(c.format, "ttl") && list != "" {
				list = "," + list
			}
			if a := d.call(c.method, c.path, fmt.Sprintf(c.format, list)); a.Status != http.StatusBadRequest || !strings.Contains(a.Body, `"detail":"images: missing; name at least one`) {
				t.Errorf("%s %s with %q: %d %s", c.method, c.path, list, a.Status, a.Body)
			}
		}
	}
	for field, body := range map[string]string{
		"schedule": `"schedule":"0 0 31 2 *"`, "timezone": `"timezone":"Europe/Atlantis"`, "window": `"window":"22:00-22:00"`,
	} {
		if a := d.call("PUT", "/v1/sets/other", `{"images":["registry.test/a:v1"],`+body+`}`); a.Status != http.StatusBadRequest || !strings.Contains(a.Body, `"detail":"`+field+`: `) {
			t.Errorf("%s: %d %s", body, a.Status, a.Body)
		}
	}
	for _, ttl := range []string{"", `,"ttl":null`, `,"ttl":""`, `,"ttl":"0s"`} {
		if a := d.call("POST", "/v1/leases", `{"images":["registry.test/a:v1"]`+ttl+`}`); a.Status != http.StatusBadRequest || !strings.Contains(a.Body, `"detail":"ttl: `) {
			t.Errorf("%q: %d %s", ttl, a.Status, a.Body)
		}
	}
	if a := d.call("POST", "/v1/runs", `{"image":"registry.test/a:v1","lease":"2y"}`); a.Status != http.StatusBadRequest || !strings.Contains(a.Body, "lease: ") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := d.call("DELETE", "/v1/sets/web", ""); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
