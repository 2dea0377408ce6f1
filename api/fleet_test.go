package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/fleettest"
)

// fleetAPI is an API with a fleet.
type fleetAPI struct {
	*fleettest.Fleet
	t       *testing.T
	handler http.Handler
	log     strings.Builder
}

// newFleetAPI serves a fleet of two live hosts, one in each of two zones, and one that is
// away.
func newFleetAPI(t *testing.T) *fleetAPI {
	f := &fleetAPI{Fleet: fleettest.New(), t: t}
	log := logrus.New()
	log.SetOutput(&f.log)
	f.handler = newHandler(t, nil, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Open: true, Fleet: f.Fleet})
	f.Add(
		fleet.Host{ID: "away", Zone: "a", Labels: map[string]string{"role": "ci"}, Invited: true},
		fleet.Host{ID: "one", Zone: "a", Labels: map[string]string{"role": "ci"}, Live: true, Version: "1.2.0", Platform: "linux/amd64"},
		fleet.Host{ID: "two", Zone: "b", Labels: map[string]string{"role": "ci"}, Live: true},
		fleet.Host{ID: "web", Labels: map[string]string{"role": "web"}, Live: true},
	)
	return f
}

func (f *fleetAPI) call(method, path, body string, header ...string) (int, string) {
	f.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(f.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	f.handler.ServeHTTP(w, r)
	answer, err := io.ReadAll(w.Result().Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return w.Code, string(answer)
}

// decode makes a call that succeeds, and decodes its answer.
func (f *fleetAPI) decode(v any, method, path, body string) {
	f.t.Helper()
	code, answer := f.call(method, path, body)
	if code/100 != 2 {
		f.t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}
	if err := json.Unmarshal([]byte(answer), v); err != nil {
		f.t.Fatalf("%v in %s", err, answer)
	}
}

const (
	webSet  = "/v1/fleet/sets/web"
	putBody = `{"images":["redis:7"],"hosts":{"role":"ci"}}`
)

// members are the hosts of a set's page.
func members(s fleet.Set) (hosts []string) {
	for _, m := range s.Members {
		hosts = append(hosts, m.Host)
	}
	return hosts
}

func TestFleetSet(t *testing.T) {
	f := newFleetAPI(t)
	var s fleet.Set
	f.decode(&s, "PUT", webSet, putBody)
	if s.Generation != 1 || len(s.Images) != 1 || s.Images[0].Digest == "" || s.Members != nil || s.Counts[fleet.StateWaiting] != 2 || s.Counts[fleet.StateAway] != 1 {
		t.Errorf("the set is %+v", s)
	}
	f.Report("web", "one", fleet.StateProven, nil)
	f.Report("web", "two", fleet.StateFailed, puller.Errorf(puller.ErrNoSpace, "the disk is full"))
	f.decode(&s, "GET", webSet, "")
	if diff := cmp.Diff([]string{"away", "one", "two"}, members(s)); diff != "" {
		t.Error(diff)
	}
	if m := s.Members[2]; m.State != fleet.StateFailed || m.Kind != puller.ErrNoSpace || m.Error == "" || s.Members[1].Digest == "" {
		t.Errorf("the members are %+v", s.Members)
	}
	code, text := f.call("GET", webSet, "", asText...)
	want := "away: away\none: proven: " + s.Images[0].Digest + "\ntwo: failed: no_space: the disk is full\nrollout: done; 3 of 3 hosts may have it\nset web: generation 1, 1 proven, 1 failed, 1 away\n"
	if diff := cmp.Diff(want, text); diff != "" || code != http.StatusOK {
		t.Errorf("%d: %s", code, diff)
	}
	var list struct{ Sets []fleet.Set }
	f.decode(&list, "GET", "/v1/fleet/sets", "")
	if len(list.Sets) != 1 || list.Sets[0].Members != nil || list.Sets[0].Counts[fleet.StateFailed] != 1 {
		t.Errorf("the sets are %+v", list.Sets)
	}
	for action, state := range map[string]fleet.RolloutState{"pause": fleet.RolloutPaused, "resume": fleet.RolloutRunning, "cancel": fleet.RolloutCanceled} {
		if f.decode(&s, "POST", webSet+"/"+action, ""); s.Rollout.State != state {
			t.Errorf("%s: the rollout is %s", action, s.Rollout.State)
		}
	}
	f.decode(&s, "DELETE", webSet, "")
	if f.decode(&list, "GET", "/v1/fleet/sets", ""); len(list.Sets) != 0 || s.Name != "web" {
		t.Errorf("%+v is left", list.Sets)
	}
	for _, line := range []string{"set of the fleet applied", "rollout of the fleet: pause", "set of the fleet deleted"} {
		if !strings.Contains(f.log.String(), line) {
			t.Errorf("the log has no %q:\n%s", line, f.log.String())
		}
	}
}

func TestPutFleetSet(t *testing.T) {
	no, yes := false, true
	for name, c := range map[string]struct {
		media, query, body string
		want               fleet.SetRequest
	}{
		"json": {
			"application/json", "", `{"images":["redis:7",{"image":"nginx","platform":"linux/amd64"}],"schedule":"0 5 * * *","timezone":"UTC","jitter":"5m","window":"22:00-06:00","policy":"missing","protect":false,
				"priority":"high","hosts":{"role":"ci"},"rollout":{"canary":"1","wave":"10%","max_failures":"5%","pause":"1m"}}`,
			fleet.SetRequest{
				Images: puller.Images{{Image: "redis:7"}, {Image: "nginx", Platform: "linux/amd64"}}, Schedule: "0 5 * * *", Timezone: "UTC", Jitter: "5m", Window: "22:00-06:00",
				Policy: puller.PolicyMissing, Protect: &no, Priority: puller.PriorityHigh, Hosts: map[string]string{"role": "ci"},
				Rollout: fleet.RolloutRequest{Canary: "1", Wave: "10%", MaxFailures: "5%", Pause: "1m"},
			},
		},
		"compose": {
			"application/yaml", "?host=role=ci&host=zone=a&canary=1&wave=10%25&max_failures=0&pause=manual&schedule=@daily&policy=missing&protect=false&var=TAG=7",
			"services: {db: {image: 'redis:${TAG}'}, own: {build: .}}",
			with(fleet.SetRequest{
				Images: puller.Images{{Image: "docker.io/library/redis:7"}}, Schedule: "@daily", Policy: puller.PolicyMissing, Protect: &no,
				Hosts: map[string]string{"role": "ci", "zone": "a"}, Rollout: fleet.RolloutRequest{Canary: "1", Wave: "10%", MaxFailures: "0", Pause: "manual"},
			}, func(r *fleet.SetRequest) { r.Skipped = []puller.Skipped{{Service: "own"}} }),
		},
		"compose_alone": {"text/yaml", "", "services: {db: {image: redis}}", fleet.SetRequest{Images: puller.Images{{Image: "docker.io/library/redis:latest"}}, Protect: &yes}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetAPI(t)
			code, body := f.call("PUT", webSet+c.query, c.body, "Content-Type", c.media)
			if code != http.StatusOK {
				t.Fatalf("%d: %s", code, body)
			}
			got := f.Asked()
			for i := range got.Skipped {
				got.Skipped[i].Reason = ""
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty(), ofRequests); diff != "" {
				t.Error(diff)
			}
			if wave := c.want.Rollout.Wave; wave != "" && !strings.Contains(body, `"wave":"`+wave+`"`) {
				t.Errorf("the wave is not in %s", body)
			}
		})
	}
}

func TestFleetWait(t *testing.T) {
	full := puller.Errorf(puller.ErrNoSpace, "the disk is full")
	for name, c := range map[string]struct {
		act    func(*fleetAPI)
		status int
		kind   puller.ErrorKind
		hosts  []string // of the problem
		lines  string
	}{
		"proven": {func(f *fleetAPI) {
			f.Report("web", "one", fleet.StateProven, nil)
			f.Report("web", "two", fleet.StateProven, nil)
		}, 200, "", nil, "rollout: done; 3 of 3 hosts may have it\nset web: generation 1, 2 proven, 1 away\n"},
		"failed": {
			func(f *fleetAPI) {
				f.Report("web", "one", fleet.StateProven, nil)
				f.Report("web", "two", fleet.StateFailed, full)
			}, 507, puller.ErrNoSpace, []string{"two"},
			"two: failed: no_space: the disk is full\nrollout: done; 3 of 3 hosts may have it\nset web: generation 1, 1 proven, 1 failed, 1 away\nno_space: set web: 1 of 3 hosts have not proven it: two failed (the disk is full)\n",
		},
		"stopped": {func(f *fleetAPI) {
			f.Report("web", "one", fleet.StateRefused, puller.Errorf(puller.ErrForbidden, "a rule"))
			f.SetRollout("web", func(r *fleet.Rollout) { r.State, r.Reason = fleet.RolloutStopped, "1 host failed" })
		}, 403, puller.ErrForbidden, []string{"one", "two"}, ""},
		"nobody": {func(f *fleetAPI) {
			f.Live("one", false)
			f.Live("two", false)
		}, 404, puller.ErrNotFound, nil, ""},
		"other": {func(f *fleetAPI) {
			f.PutSet(f.t.Context(), "web", fleet.SetRequest{Images: puller.Images{{Image: "redis"}}})
		}, 409, puller.ErrConflict, nil, ""},
		"gone": {func(f *fleetAPI) { f.DeleteSet(f.t.Context(), "web") }, 404, puller.ErrNotFound, nil, ""},
	} {
		for _, header := range [][]string{nil, asText} {
			t.Run(fmt.Sprint(name, "/", len(header)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFleetAPI(t)
					var code int
					var body string
					done := make(chan struct{})
					go func() {
						code, body = f.call("PUT", webSet+"?wait=true", putBody, header...)
						close(done)
					}()
					synctest.Wait()
					select {
					case <-done:
						t.Fatalf("it does not wait: %d %s", code, body)
					default:
					}
					c.act(f)
					<-done
					if code != c.status {
						t.Fatalf("%d %s", code, body)
					}
					if header != nil {
						if diff := cmp.Diff(c.lines, body); c.lines != "" && name != "proven" && diff != "" {
							t.Error(diff)
						}
						return
					}
					if c.kind == "" {
						if !strings.Contains(body, `"proven":2`) || strings.Contains(body, `"members":[`) {
							t.Error(body)
						}
						return
					}
					var p answers.Problem
					if err := json.Unmarshal([]byte(body), &p); err != nil || p.Kind != c.kind {
						t.Errorf("%v: %s", err, body)
					}
					if diff := cmp.Diff(c.hosts, members(fleet.Set{Members: p.Members})); diff != "" {
						t.Error(diff)
					}
					// A set that is there can be waited for as well.
					if again, body := f.call("GET", webSet+"?wait=true&generation=1", ""); again != c.status {
						t.Errorf("%d %s", again, body)
					}
				})
			})
		}
	}
}

func TestFleetWaitLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleetAPI(t)
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "PUT", webSet+"?wait=true", strings.NewReader(putBody))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true, Fleet: f.Fleet}).ServeHTTP(w, r)
		}()
		synctest.Wait()
		cancel()
		<-done
		if w.Body.Len() > 0 {
			t.Errorf("who has gone is answered %s", w.Body)
		}
	})
}

func TestFleetText(t *testing.T) {
	f := newFleetAPI(t)
	for _, c := range [][3]string{
		{"PUT", webSet, putBody}, {"POST", webSet + "/pause", ""}, {"POST", webSet + "/resume", ""}, {"POST", webSet + "/cancel", ""}, {"DELETE", webSet, ""},
	} {
		if code, body := f.call(c[0], c[1], c[2], "Accept", "text/plain"); code != http.StatusOK || !strings.Contains(body, "set web: generation 1") {
			t.Errorf("%s %s: %d %s", c[0], c[1], code, body)
		}
	}
}

func TestFleetPages(t *testing.T) {
	f := newFleetAPI(t)
	const many = 1000
	var wanted []string
	for i := range many {
		id := fmt.Sprintf("n%04d", i)
		f.Add(fleet.Host{ID: id, Zone: "z", Live: i%2 == 0, Labels: map[string]string{"rack": fmt.Sprint(i % 10)}})
		wanted = append(wanted, id)
	}
	f.decode(new(fleet.Set), "PUT", webSet, `{"images":["redis:7"],"hosts":{"zone":"z"}}`)
	type page struct {
		Members     []fleet.MemberState
		Hosts       json.RawMessage // of a set, its labels
		Next        string
		Total, Live int
	}
	read := func(path string) (ids []string, pages int, last page) {
		for cursor := ""; ; cursor = last.Next {
			last = page{}
			f.decode(&last, "GET", path+"&cursor="+cursor, "")
			pages++
			var hosts []fleet.Host
			if json.Unmarshal(last.Hosts, &hosts); last.Members == nil {
				for _, h := range hosts {
					ids = append(ids, h.ID)
				}
			}
			ids = append(ids, members(fleet.Set{Members: last.Members})...)
			if last.Next == "" {
				return ids, pages, last
			}
		}
	}
	for path, want := range map[string]int{webSet + "?limit=300": 4, webSet + "?limit=1000": 1, webSet + "?state=": 10, "/v1/fleet/hosts?label=zone=z&limit=500": 2} {
		ids, pages, last := read(path)
		if diff := cmp.Diff(wanted, ids); diff != "" || pages != want {
			t.Errorf("%s: %d pages: %s", path, pages, diff)
		}
		if strings.Contains(path, "hosts?") && (last.Total != many || last.Live != many/2) {
			t.Errorf("%s: %d hosts, %d live", path, last.Total, last.Live)
		}
	}
	for path, want := range map[string]int{
		webSet + "?state=away": many / 2, webSet + "?state=proven": 0, "/v1/fleet/hosts?label=zone=z&label=rack=3": many / 10,
		"/v1/fleet/hosts?label=zone=z&live=false": many / 2, "/v1/fleet/hosts?label=zone=none": 0,
	} {
		if ids, _, _ := read(path); len(ids) != want {
			t.Errorf("%s: %d", path, len(ids))
		}
	}
}

func TestFleetHosts(t *testing.T) {
	f := newFleetAPI(t)
	var i fleet.Invitation
	f.decode(&i, "POST", "/v1/fleet/hosts", `{"host":"build-7","labels":{"role":"ci"},"controller":true}`)
	if diff := cmp.Diff(fleet.InviteRequest{Host: "build-7", Labels: map[string]string{"role": "ci"}, Controller: true}, f.Invited(), ofRequests); diff != "" || !strings.Contains(i.Creds, "secret") {
		t.Errorf("%+v: %s", i, diff)
	}
	if strings.Contains(f.log.String(), "secret") || !strings.Contains(f.log.String(), "build-7") {
		t.Errorf("the log has %s", f.log.String())
	}
	var h fleet.Host
	if f.decode(&h, "DELETE", "/v1/fleet/hosts/away", ""); h.ID != "away" {
		t.Errorf("%+v is removed", h)
	}
	var link fleet.Link
	if f.decode(&link, "GET", "/v1/fleet", ""); link.State != fleet.LinkUp || !link.Controller || link.Hosts != 3 {
		t.Errorf("the link is %+v", link)
	}
}

func TestBadFleetCalls(t *testing.T) {
	for name, c := range map[string]struct{ method, path, body, detail string }{
		"field":             {"PUT", webSet, `{"images":["a"],"host":{}}`, "host: there is no such field"},
		"field_of_rollout":  {"PUT", webSet, `{"images":["a"],"rollout":{"waves":"1"}}`, "waves: there is no such field"},
		"number":            {"PUT", webSet, `{"images":["a"],"rollout":{"wave":10}}`, "rollout.wave: "},
		"hosts":             {"PUT", webSet, `{"images":["a"],"hosts":["a"]}`, "hosts: "},
		"image":             {"PUT", webSet, `{"images":["a b"]}`, "images[0]: "},
		"no_image":          {"PUT", webSet, `{"images":[]}`, "images: "},
		"set":               {"PUT", "/v1/fleet/sets/a.b", putBody, "name: "},
		"query":             {"PUT", webSet + "?wave=1", putBody, "wave: "},
		"wait":              {"PUT", webSet + "?wait=yes", putBody, "wait: "},
		"no_body":           {"PUT", webSet, "", "Content-Type: "},
		"large":             {"PUT", webSet, `{"images":["` + strings.Repeat("a", 1<<20) + `"]}`, "body: larger"},
		"delete_body":       {"DELETE", webSet, `{}`, "body: "},
		"pause_body":        {"POST", webSet + "/pause", `{"a":1}`, "a: "},
		"state":             {"GET", webSet + "?state=lost", "", "state: "},
		"limit":             {"GET", webSet + "?limit=1001", "", "limit: "},
		"limit_of_hosts":    {"GET", "/v1/fleet/hosts?limit=none", "", "limit: "},
		"generation":        {"GET", webSet + "?generation=1", "", "generation: "},
		"generation_number": {"GET", webSet + "?generation=x&wait=true", "", "generation: "},
		"label":             {"GET", "/v1/fleet/hosts?label=role", "", "label: "},
		"label_twice":       {"GET", "/v1/fleet/hosts?label=a=1&label=a=2", "", "label: "},
		"live":              {"GET", "/v1/fleet/hosts?live=no", "", "live: "},
		"invited":           {"POST", "/v1/fleet/hosts", `{"host":"a b"}`, "host: "},
		"invited_labels":    {"POST", "/v1/fleet/hosts", `{"host":"a","labels":{"zone":"x"}}`, "labels: "},
		"since":             {"GET", "/v1/fleet/events?since=1", "", "since: "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetAPI(t)
			if c.method != "PUT" {
				f.decode(new(fleet.Set), "PUT", webSet, putBody)
			}
			code, body := f.call(c.method, c.path, c.body)
			var p answers.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || code != http.StatusBadRequest || !strings.HasPrefix(p.Detail, c.detail) {
				t.Errorf("%d %s", code, body)
			}
			if all, err := f.Sets(); c.method == "PUT" && (len(all) > 0 || err != nil) {
				t.Errorf("there are %+v: %v", all, err)
			}
		})
	}
	t.Run("compose", func(t *testing.T) {
		f := newFleetAPI(t)
		if code, body := f.call("PUT", webSet+"?host=ci", "services: {a: {image: a}}", "Content-Type", "application/yaml"); code != 400 || !strings.Contains(body, "host: ") {
			t.Errorf("%d %s", code, body)
		}
	})
	calls := [][3]string{
		{"GET", "/v1/fleet/sets", ""}, {"GET", webSet, ""}, {"PUT", webSet, putBody}, {"DELETE", webSet, ""}, {"POST", webSet + "/pause", ""},
		{"GET", "/v1/fleet/hosts", ""}, {"POST", "/v1/fleet/hosts", `{"host":"a"}`}, {"DELETE", "/v1/fleet/hosts/a", ""}, {"GET", "/v1/fleet/events", ""},
	}
	for kind, status := range map[puller.ErrorKind]int{puller.ErrForbidden: 403, puller.ErrOverloaded: 503, puller.ErrConflict: 409, puller.ErrNotFound: 404} {
		t.Run(string(kind), func(t *testing.T) {
			f := newFleetAPI(t)
			f.Fail(puller.Errorf(kind, "no"))
			for _, c := range calls {
				if code, body := f.call(c[0], c[1], c[2]); code != status {
					t.Errorf("%s %s: %d %s", c[0], c[1], code, body)
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		f := newFleetAPI(t)
		f.handler = newHandler(t, nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true})
		for _, c := range calls {
			if code, body := f.call(c[0], c[1], c[2]); code != 404 || !strings.Contains(body, "fleet.url or fleet.embedded") {
				t.Errorf("%s %s: %d %s", c[0], c[1], code, body)
			}
		}
		var link fleet.Link
		if f.decode(&link, "GET", "/v1/fleet", ""); link.State != fleet.LinkOff || !strings.Contains(link.Reason, "fleet.url") {
			t.Errorf("the link is %+v", link)
		}
	})
}

// fleetFeed reads events of a fleet. readFeed ends with the test.
func (f *fleetAPI) feed(path, media string) (next func() fleet.Event, end func() []string) {
	f.t.Helper()
	server := httptest.NewServer(f.handler)
	f.t.Cleanup(server.Close)
	f.t.Cleanup(f.Close)
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	f.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Accept", media)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != media {
		f.t.Fatalf("the stream is %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	next = func() (e fleet.Event) {
		f.t.Helper()
		for lines.Scan() {
			data := strings.TrimPrefix(lines.Text(), "data: ")
			if !strings.HasPrefix(data, "{") {
				continue
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				f.t.Fatalf("%v in %s", err, data)
			}
			return e
		}
		f.t.Fatalf("the stream has ended: %v", lines.Err())
		return e
	}
	return next, func() (rest []string) {
		for lines.Scan() {
			rest = append(rest, lines.Text())
		}
		return rest
	}
}

func TestFleetEvents(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		t.Run(media[len(media)-3:], func(t *testing.T) {
			f := newFleetAPI(t)
			f.decode(new(fleet.Set), "PUT", webSet, putBody)
			next, end := f.feed("/v1/fleet/events", media)
			if e := next(); e.Type != fleet.EventLink || e.Link.Fleet != "test" {
				t.Errorf("first comes %+v", e)
			}
			if e := next(); e.Type != fleet.EventSet || e.Set.Name != "web" || e.Set.Members != nil {
				t.Errorf("then comes %+v", e)
			}
			f.Report("web", "one", fleet.StateProven, nil)
			for e := next(); e.Type != fleet.EventSet || e.Set.Counts[fleet.StateProven] != 1; e = next() {
			}
			f.Live("two", false)
			for e := next(); e.Type != fleet.EventHost || e.Host.ID != "two" || e.Host.Live; e = next() {
			}
			f.decode(new(fleet.Host), "DELETE", "/v1/fleet/hosts/away", "")
			for e := next(); e.Type != fleet.EventRemoved || e.Host == nil || e.Host.ID != "away"; e = next() {
			}
			f.decode(new(fleet.Set), "DELETE", webSet, "")
			for e := next(); e.Type != fleet.EventRemoved || e.Name != "web"; e = next() {
			}
			f.Close()
			rest := strings.Join(end(), "\n")
			if !strings.Contains(rest, "shutting down") || strings.Contains(rest, "retry: ") != (media == sse) {
				t.Errorf("the end is %q", rest)
			}
		})
	}
}

func TestFleetEventsOfSet(t *testing.T) {
	f := newFleetAPI(t)
	f.decode(new(fleet.Set), "PUT", webSet, putBody)
	f.decode(new(fleet.Set), "PUT", "/v1/fleet/sets/other", putBody)
	next, _ := f.feed("/v1/fleet/events?set=web", ndjson)
	for _, want := range []string{"", "away", "one", "two"} {
		if e := next(); e.Type != fleet.EventSet && e.Member.Host != want || e.Type == fleet.EventSet && want != "" {
			t.Errorf("comes %+v, not %q", e, want)
		}
	}
	f.Report("other", "one", fleet.StateProven, nil)
	f.Report("web", "one", fleet.StateFailed, puller.Errorf(puller.ErrDenied, "no access"))
	if e := next(); e.Type != fleet.EventMember || e.Name != "web" || e.Member.Kind != puller.ErrDenied || e.Generation != 1 {
		t.Errorf("comes %+v", e)
	}
	if code, body := f.call("GET", "/v1/fleet/events?set=none", ""); code != http.StatusNotFound {
		t.Errorf("%d %s", code, body)
	}
}

func TestFleetEventsHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleetAPI(t)
		began := time.Now()
		done := make(chan string)
		go func() {
			_, body := f.call("GET", "/v1/fleet/events", "")
			done <- body
		}()
		<-time.After(46 * time.Second)
		f.Close()
		if body := <-done; strings.Count(body, `"heartbeat"`) != 3 || time.Since(began) != 46*time.Second {
			t.Errorf("after %s: %s", time.Since(began), body)
		}
	})
}
