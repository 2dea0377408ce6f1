package doctor_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/doctor"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// registries answers for all registries.
type registries func(host string) (*http.Response, error)

func (f registries) RoundTrip(r *http.Request) (*http.Response, error) { return f(r.URL.Host) }

// diagnose runs all checks of a daemon whose engine is as given, nil for no daemon.
func diagnose(t *testing.T, engine *puller.EngineInfo, now time.Time, asked registries, cooling ...puller.CoolDown) map[string]doctor.Finding {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	if engine != nil {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v1/queue":
				json.NewEncoder(w).Encode(puller.QueueState{Registries: []puller.RegistryState{{Registry: "b.test"}, {Registry: "docker.io", CoolDowns: cooling}}})
			case r.URL.Path == "/v1/fleet":
				json.NewEncoder(w).Encode(fleet.Link{State: fleet.LinkState(engine.Name), Fleet: "ci", Host: "build-7", Reason: engine.Version})
			case r.URL.Path == "/v1/engine":
				json.NewEncoder(w).Encode(engine)
			case engine.Name == "no store":
				w.WriteHeader(http.StatusServiceUnavailable)
				io.WriteString(w, `{"kind":"overloaded","detail":"jobs can't be written to the store"}`)
			case engine.Reachable:
				io.WriteString(w, `{"status":"ready"}`)
			default:
				w.WriteHeader(http.StatusServiceUnavailable)
				io.WriteString(w, `{"kind":"engine_unavailable","detail":"ask the engine: nothing at unix:///nowhere/x.sock. Is it there?"}`)
			}
		}))
		daemon.Listener.Close()
		daemon.Listener = l
		daemon.Start()
		t.Cleanup(daemon.Close)
	}
	c, err := client.New("unix://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	found := make(map[string]doctor.Finding)
	for _, f := range doctor.Run(t.Context(), doctor.Options{
		Client: c, Host: "unix://" + path, Registries: []string{"docker.io", "a.test"}, HTTP: &http.Client{Transport: asked}, Now: func() time.Time { return now },
	}) {
		found[f.Check] = f
		if (f.State != doctor.OK) != (f.Fix != "") || f.Detail == "" {
			t.Errorf("a finding without detail, or whose fix does not fit: %+v", f)
		}
	}
	return found
}

func TestRun(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answers := func(status int, date time.Time) registries {
		return func(string) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"Date": {date.Format(http.TimeFormat)}}, Body: http.NoBody}, nil
		}
	}
	good := &puller.EngineInfo{Name: "Docker Engine", Version: "28", Reachable: true, Disk: &puller.Disk{Total: 100e9, Free: 50e9}, Accelerator: &puller.AcceleratorState{Way: puller.WayMirror}}
	full := *good
	full.Disk = &puller.Disk{Total: 100e9, Free: 9e9}
	full.Accelerator = &puller.AcceleratorState{Way: puller.WayNone, Reason: "a trial has failed"}
	for _, c := range []struct {
		name   string
		engine *puller.EngineInfo
		asked  registries
		states string
		detail map[string]string
	}{
		{"all is well", good, answers(401, now), "", map[string]string{"socket": "has mode 0", "disk": "50.0 GB of 100.0 GB free", "clock": "differs by 0s"}},
		{"no daemon", nil, answers(200, now), "daemon:failed socket:failed", map[string]string{"socket": "there is no socket at"}},
		{"no engine", &puller.EngineInfo{}, answers(200, now), "daemon:warning engine:failed", map[string]string{"daemon": "waits for its engine", "engine": "there is no socket at /nowhere/x.sock"}},
		{"no store", &puller.EngineInfo{Name: "no store", Reachable: true}, answers(200, now), "daemon:failed", map[string]string{"daemon": "can't be written", "engine": "no store"}},
		{"little room", &full, answers(200, now), "accelerator:warning disk:warning", map[string]string{"accelerator": "way none: a trial has failed"}},
		{"a wrong clock", good, answers(200, now.Add(-time.Hour)), "clock:failed", map[string]string{"clock": "1h0m0s"}},
		{"no registry", good, func(string) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, "clock:warning registry a.test:failed registry docker.io:failed", nil},
		{"something else", good, answers(404, now), "registry a.test:failed registry docker.io:failed", nil},
		{"plain HTTP", good, func(string) (*http.Response, error) { return nil, http.ErrSchemeMismatch }, "clock:warning registry a.test:warning registry docker.io:warning", map[string]string{"registry a.test": "plain HTTP only"}},
		{"limits", good, answers(429, now), "registry a.test:warning registry docker.io:warning", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := diagnose(t, c.engine, now, c.asked)
			var bad []string
			for _, name := range []string{"accelerator", "clock", "daemon", "disk", "engine", "registry a.test", "registry docker.io", "socket"} {
				if f, ok := found[name]; ok && f.State != doctor.OK {
					bad = append(bad, name+":"+f.State)
				}
			}
			if got := strings.Join(bad, " "); got != c.states {
				t.Errorf("%q, want %q: %+v", got, c.states, found)
			}
			for name, want := range c.detail {
				if !strings.Contains(found[name].Detail, want) {
					t.Errorf("%s: %q does not say %q", name, found[name].Detail, want)
				}
			}
		})
	}
}

func TestFleet(t *testing.T) {
	refuses := func(string) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	for link, want := range map[fleet.LinkState]string{fleet.LinkUp: doctor.OK, fleet.LinkAway: doctor.Warning, fleet.LinkRefused: doctor.Failed, fleet.LinkOff: ""} {
		// The test's daemon has the state and the reason from the names of its engine.
		found := diagnose(t, &puller.EngineInfo{Name: string(link), Version: "a reason"}, time.Now(), refuses)["fleet"]
		if found.State != want || want != "" && found.Detail != "host build-7 of ci is "+string(link)+": a reason" {
			t.Errorf("%s: %+v", link, found)
		}
	}
}

func TestCoolDown(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	refuses := func(string) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	found := diagnose(t, &puller.EngineInfo{Reachable: true}, now, refuses, puller.CoolDown{Until: now.Add(90 * time.Second)})
	if f := found["cool-down of docker.io"]; f.State != doctor.Warning || f.Detail != "it limits the rate, so these wait: pulls without a login, 1m30s left" {
		t.Errorf("%+v", f)
	}
	if f, ok := found["cool-down of b.test"]; ok {
		t.Errorf("%+v", f)
	}
}

func TestWrite(t *testing.T) {
	var out strings.Builder
	doctor.Write(&out, []doctor.Finding{{Check: "a", State: doctor.OK, Detail: "b"}, {Check: "c", State: doctor.Failed, Detail: "x\x1b[2J\ny", Fix: "do it"}})
	if want := "ok       a: b\nfailed   c: x\ufffd[2J y\n         to mend it: do it\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestWrongAddresses(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	host := strings.Replace(plain.URL, "http:", "https:", 1)
	c, err := client.New(host, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	asks := registries(func(host string) (*http.Response, error) {
		t.Errorf("it asks %s", host)
		return nil, io.ErrUnexpectedEOF
	})
	names := []string{"http://a.test", "a.test:65536", "a.test:x", "a.test/team", "user@a.test", ""}
	found := doctor.Run(t.Context(), doctor.Options{Client: c, Host: host, Registries: names, HTTP: &http.Client{Transport: asks}, Now: time.Now})
	refused := 0
	for _, f := range found {
		switch {
		case strings.HasPrefix(f.Check, "registry "):
			if f.State == doctor.Failed && strings.Contains(f.Detail, "is no registry") && strings.HasPrefix(f.Fix, "write its host") {
				refused++
			}
		case f.Check == "daemon" && (!strings.Contains(f.Detail, "has no TLS") || !strings.Contains(f.Fix, "http://")):
			t.Errorf("%+v", f)
		}
	}
	if refused != len(names) {
		t.Errorf("%d of %q are refused: %+v", refused, names, found)
	}
}
