package jobs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// credentialsFor are for the registry that server names, "" for none.
func credentialsFor(t testing.TB, server string) puller.Credentials {
	t.Helper()
	c, err := puller.ParseCredentials(encode(fmt.Sprintf(`{"username":"ada","password":"hunter2","serveraddress":%q}`, server)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCredentialsServer(t *testing.T) {
	t.Parallel()
	t.Run("for one registry", testCredentialsForOneRegistry)
	t.Run("address", testCredentialsServerAddress)
	t.Run("not for others", testCredentialsNotForOthers)
	t.Run("of pull and run", testCredentialsOfPullAndRun)
	t.Run("denial explained", testCredentialsDenialExplained)
}

func testCredentialsForOneRegistry(t *testing.T) {
	const a, b, hub = "a.test/x:v1", "b.test/x:v1", "alpine:3.20"
	for _, c := range []struct {
		server, image string
		shown         bool
	}{
		{"", a, true}, {"", hub, true},
		{"a.test", a, true}, {"https://a.test", a, true}, {"http://a.test/v2/", a, true}, {"A.test:443", a, true}, {"a.test.:0443/", a, true},
		{"a.test", "A.TEST:443/x:v1", true}, {"HTTPS://A.TEST/v1/", a, true},
		{"a.test", b, false}, {"a.test", "a.test:5000/x:v1", false}, {"a.test:5000", a, false}, {"a.test.evil", a, false}, {"a.test/b.test", b, false}, {"https://a.test/b.test/", b, false},
		{"127.0.0.1:5000", "127.0.0.1:05000/x:v1", true}, {"[::ffff:7f00:1]:5000", "127.0.0.1:5000/x:v1", true}, {"127.0.0.1:5000", "127.0.0.1:5001/x:v1", false},
		{"https://index.docker.io/v1/", hub, true}, {"https://index.docker.io/v1", hub, true}, {"docker.io", hub, true}, {"index.docker.io", hub, true},
		{"registry-1.docker.io", hub, true}, {"https://registry.hub.docker.com", "docker.io/library/alpine:3.20", true}, {"docker.io", "registry-1.docker.io/library/alpine:3.20", true},
		{"https://index.docker.io/v1/", a, false}, {"a.test", hub, false}, {"docker.io", "docker.io:5000/x:v1", false},
	} {
		named, err := puller.ParseReference(c.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := credentialsFor(t, c.server).For(named) != (puller.Credentials{}); got != c.shown {
			t.Errorf("those for %q are shown for %s: %t", c.server, c.image, got)
		}
	}
}

// Engines with the containerd image store take credentials only for the server
// beside them, by the name that they call it by.
func testCredentialsServerAddress(t *testing.T) {
	for image, server := range map[string]string{
		"docker.io/library/alpine:3.20": "https://index.docker.io/v1/", "registry-1.docker.io/library/alpine:3.20": "registry-1.docker.io",
		"a.test/x:v1": "a.test", "A.test:443/x:v1": "A.test:443", "127.0.0.1:05000/x:v1": "127.0.0.1:05000",
	} {
		for _, own := range []string{"", "A.TEST."} {
			raw, err := base64.URLEncoding.DecodeString(credentialsFor(t, own).HeaderFor(image))
			var fields map[string]string
			if err == nil {
				err = json.Unmarshal(raw, &fields)
			}
			if err != nil || fields["serveraddress"] != server || fields["username"] != "ada" || fields["password"] != "hunter2" || len(fields) != 3 {
				t.Errorf("%s: %v, %v", image, fields, err)
			}
		}
	}
	if got := (puller.Credentials{}).HeaderFor("a.test/x:v1"); got != "" {
		t.Errorf("no credentials are %q", got)
	}
}

// shownTo notes which credentials an engine and a registry are shown.
type shownTo struct {
	fakeRegistry
	mu    sync.Mutex
	those map[string]bool // by image: whether there were any
}

func (s *shownTo) note(image, auth string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.those[image] = s.those[image] || auth != ""
}

func (s *shownTo) Head(_ context.Context, image string, c puller.Credentials) (string, error) {
	s.note(image, c.Header())
	return "", puller.Errorf(puller.ErrNotFound, "not known")
}

func (s *shownTo) Manifest(_ context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	s.note(q.Image, q.Credentials.Header())
	return puller.Manifest{}, puller.Errorf(puller.ErrNotFound, "not known")
}

func testCredentialsNotForOthers(t *testing.T) {
	const a, other, b, hub = "a.test/x:v1", "a.test/y:v1", "b.test/x:v1", "docker.io/library/alpine:3.20"
	for _, c := range []struct {
		server string
		images []string
		shown  []string // of them
		fault  []string // that the refusal names
	}{
		{"", []string{a, other}, []string{a, other}, nil},
		{"", []string{a, b}, nil, []string{"X-Registry-Auth: ", "serveraddress", "a.test, b.test"}},
		{"", []string{hub, "registry-1.docker.io/library/alpine:3.20"}, []string{hub, "registry-1.docker.io/library/alpine:3.20"}, nil},
		{"", []string{hub, a, b}, nil, []string{"a.test, b.test, docker.io"}},
		{"a.test", []string{a, b, hub}, []string{a}, nil},
		{"https://index.docker.io/v1/", []string{a, b, hub}, []string{hub}, nil},
		{"c.test", []string{a, b}, nil, nil},
	} {
		t.Run(c.server+" "+strings.Join(c.images, " "), func(t *testing.T) {
			seen := &shownTo{those: make(map[string]bool)}
			o := defaults
			o.Registry = seen
			withDaemonOf(t, o, nil, func(d *daemon) {
				request := puller.PrewarmRequest{Policy: puller.PolicyAlways, Credentials: credentialsFor(t, c.server)}
				for _, image := range c.images {
					serve := enginetest.Serve(enginetest.NewImage(image, 1))
					d.engine.Script(image, func(p *enginetest.Pull) { seen.note(image, p.Auth()); serve(p) })
					request.Images = append(request.Images, puller.PullRequest{Image: image})
				}
				job, err := d.Prewarm(request)
				_, planned := d.Plan(d.Context(), request)
				if c.fault != nil {
					for _, err := range []error{err, planned} {
						for _, word := range c.fault {
							if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), word) {
								t.Errorf("without %q: %v", word, err)
							}
						}
					}
					return
				}
				if err != nil || planned != nil {
					t.Fatal(err, planned)
				}
				d.Wait(d.Context(), job.ID)
				seen.mu.Lock()
				defer seen.mu.Unlock()
				for _, image := range c.images {
					if want := strings.Contains(strings.Join(c.shown, " ")+" ", image+" "); seen.those[image] != want {
						t.Errorf("those for %q are shown for %s: %t", c.server, image, seen.those[image])
					}
				}
			})
		})
	}
}

func testCredentialsOfPullAndRun(t *testing.T) {
	for server, shown := range map[string]bool{"": true, "registry.test": true, "other.test": false} {
		withDaemon(t, func(d *daemon) {
			auth := make(chan string, 2)
			d.engine.Script(good, func(p *enginetest.Pull) { auth <- p.Auth(); p.Fail("denied") })
			c := credentialsFor(t, server)
			d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: c}), puller.ErrDenied)
			job, err := d.Service.Run(puller.RunRequest{Image: good, Policy: puller.PolicyAlways, Credentials: c})
			if err != nil {
				t.Fatal(err)
			}
			d.failed(job, puller.ErrDenied)
			for range 2 {
				if got := <-auth; (got != "") != shown {
					t.Errorf("those for %q: the engine got %q", server, got)
				}
			}
		})
	}
}

func testCredentialsDenialExplained(t *testing.T) {
	o := defaults
	o.Registry = &fakeRegistry{ownErr: puller.Errorf(puller.ErrInternal, "docker-credential-x failed (/root/.docker/config.json names it)")}
	withDaemonOf(t, o, nil, func(d *daemon) {
		none := 0
		for words, told := range map[string]bool{"denied: requested access to the resource is denied": true, "manifest unknown": true, "dial tcp: connection refused": false} {
			d.engine.Script(good, func(p *enginetest.Pull) { p.Fail(words) })
			v := d.end(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Retries: &none}))
			if v.Error == nil || strings.Contains(v.Error.Message, "no credentials were shown: docker-credential-x failed (/root/.docker/config.json") != told {
				d.Errorf("%s: %+v", words, v.Error)
			}
		}
		// With a caller's own it is not the reason.
		d.engine.Script(good, func(p *enginetest.Pull) { p.Fail("denied") })
		v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: credentialsFor(t, "")}), puller.ErrDenied)
		if strings.Contains(v.Error.Message, "docker-credential") {
			d.Errorf("%+v", v.Error)
		}
	})
}
