package docker_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// pull returns the kind of the error that a pull of an image ends with.
func pull(t *testing.T, e *docker.Engine, image string) (puller.ErrorKind, error) {
	t.Helper()
	err := e.Pull(t.Context(), puller.Pull{Image: image}, func(pullstream.Message) {})
	return puller.KindOf(err), err
}

func TestClassifyRecordings(t *testing.T) {
	kinds := map[string]puller.ErrorKind{
		"engine-20.10/bad-password":            puller.ErrDenied,
		"engine-20.10/bad-reference":           puller.ErrInvalidRequest,
		"engine-20.10/client-gone":             puller.ErrTruncated,
		"engine-20.10/corrupt-layer":           puller.ErrCorrupt,
		"engine-20.10/digest-ref":              "",
		"engine-20.10/engine-killed-midway":    puller.ErrTruncated,
		"engine-20.10/fresh":                   "",
		"engine-20.10/no-dns":                  puller.ErrRegistryUnavailable,
		"engine-20.10/no-space":                puller.ErrNoSpace,
		"engine-20.10/no-tag-all":              "",
		"engine-20.10/rate-limited":            puller.ErrRateLimited,
		"engine-20.10/registry-down":           puller.ErrRegistryUnavailable,
		"engine-20.10/registry-killed-midway":  puller.ErrTruncated, // the recording stops before the engine gave up
		"engine-20.10/repo-not-found":          puller.ErrNotFound,
		"engine-20.10/same-image-first":        "",
		"engine-20.10/same-image-second":       "",
		"engine-20.10/shared-base":             "",
		"engine-20.10/tag-not-found":           puller.ErrNotFound,
		"engine-20.10/unauthorized":            puller.ErrDenied,
		"engine-20.10/up-to-date":              "",
		"engine-20.10/with-auth":               "",
		"engine-20.10/wrong-platform":          "", // for the proof to find
		"engine-next/bad-reference":            puller.ErrInvalidRequest,
		"engine-next/digest-ref":               "",
		"engine-next/fresh":                    "",
		"engine-next/no-dns":                   puller.ErrRegistryUnavailable,
		"engine-next/no-tag-all":               "",
		"engine-next/registry-down":            puller.ErrRegistryUnavailable,
		"engine-next/repo-not-found":           puller.ErrNotFound,
		"engine-next/shared-base":              "",
		"engine-next/tag-not-found":            puller.ErrNotFound,
		"engine-next/unauthorized":             puller.ErrDenied,
		"engine-next/up-to-date":               "",
		"engine-next/with-auth":                "",
		"engine-podman/digest-ref":             "",
		"engine-podman/fresh":                  "",
		"engine-podman/registry-killed-midway": puller.ErrRegistryUnavailable,
		"engine-podman/repo-not-found":         puller.ErrNotFound,
		"engine-podman/up-to-date":             "",
	}
	const image = "registry.test/recorded:v1"
	e, scripted := newEngine(t)
	for _, r := range transcripts.All() {
		t.Run(r.Name, func(t *testing.T) {
			want, known := kinds[r.Name]
			if !known {
				t.Fatal("the recording has no row in the table")
			}
			delete(kinds, r.Name)
			scripted.Script(image, enginetest.Replay(r, nil))
			if got, err := pull(t, e, image); got != want {
				t.Errorf("the kind is %q, not %q: %v", got, want, err)
			}
		})
	}
	for name := range kinds {
		t.Errorf("there is no recording %s", name)
	}
}

// What engines say, where REF is the image, NAME is it without its tag, and PATH
// without its registry too; FAMILIAR and SHORT are REF and NAME as Docker's
// command line has them. Every message must mean the same for every image, in
// the stream and before it.
var said = []struct {
	kind     puller.ErrorKind
	messages []string
}{
	{puller.ErrRateLimited, []string{
		// Graph drivers, and Docker Hub through them.
		"toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
		"toomanyrequests: Rate exceeded",
		"error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value: \"Too Many Requests (HAP429).\"",
		"error parsing HTTP 429 response body: unexpected end of JSON input: \"\"",
		"unexpected status code 429",
		// The containerd store.
		"You have reached your pull rate limit.",
		"error from registry: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
		"failed to resolve reference \"REF\": unexpected status from HEAD request to https://registry-1.docker.io/v2/PATH/manifests/v1: 429 Too Many Requests",
		"failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/PATH/blobs/sha256:404a: 429 Too Many Requests - Server message: toomanyrequests: slow down",
		// Podman.
		"initializing source docker://REF: reading manifest v1 in NAME: toomanyrequests: You have reached your pull rate limit.",
		"reading blob sha256:404a: fetching blob: StatusCode: 429, \"<html>\"",
	}},
	{puller.ErrDenied, []string{
		"pull access denied for SHORT, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
		"unauthorized: authentication required",
		"unauthorized: incorrect username or password",
		"Head \"https://registry.test/v2/PATH/manifests/v1\": no basic auth credentials",
		"Head \"https://ghcr.io/v2/PATH/manifests/v1\": denied: denied",
		"Head \"https://ghcr.io/v2/PATH/manifests/v1\": denied",
		"Head \"https://ghcr.io/v2/PATH/manifests/v1\": unauthorized",
		"denied",
		"denied: Your authorization token has expired. Reauthenticate and try again.",
		"denied: User: arn:aws:sts::123456789012:assumed-role/ci is not authorized to perform: ecr:BatchGetImage",
		"error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: \"<html>\"",
		"failed to resolve reference \"REF\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
		"failed to resolve reference \"REF\": unexpected status from HEAD request to https://registry.test/v2/PATH/manifests/v1: 403 Forbidden",
		"failed to resolve reference \"REF\": failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://auth.test/token?scope=repository%3Aa%3Apull: 401 Unauthorized",
		"error from registry: denied\ndenied",
		"error from registry: The requested access to the resource is denied",
		"error from registry: incorrect username or password",
		"initializing source docker://REF: reading manifest v1 in NAME: requested access to the resource is denied",
		"initializing source docker://REF: unable to retrieve auth token: invalid username/password: unauthorized: The login credentials are not valid",
		"initializing source docker://REF: Requesting bearer token: invalid status code from registry 403 (Forbidden)",
		"reading blob sha256:404a: fetching blob: StatusCode: 403, \"<?xml version=\"",
	}},
	{puller.ErrNotFound, []string{
		"manifest for FAMILIAR not found: manifest unknown: manifest unknown",
		"manifest unknown: manifest unknown",
		"repository SHORT not found: name unknown: repository name not known to registry",
		"name unknown: The repository with name 'PATH' does not exist in the registry with id '123456789012'",
		"name unknown",
		"error parsing HTTP 404 response body: unexpected end of JSON input: \"\"",
		"failed to resolve reference \"REF\": REF: not found",
		"failed to resolve reference \"REF\": unexpected status from HEAD request to https://registry.test/v2/PATH/manifests/v1: 404 Not Found",
		"initializing source docker://REF: reading manifest v1 in NAME: manifest unknown",
		"initializing source docker://REF: reading manifest v1 in NAME: name unknown: repository name not known to registry",
		"initializing source docker://REF: reading manifest v1 in NAME: StatusCode: 404, \"\"",
	}},
	{puller.ErrTruncated, []string{ // another client pruned the store (Docker 29)
		"failed to copy: failed commit on ref \"layer-sha256:404a\": rename /var/lib/containerd/io.containerd.content.v1.content/ingest/1/data /var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/404a: no such file or directory",
		"failed commit on ref \"manifest-sha256:404a\": rename /a /b: no such file or directory: not found",
		"lease does not exist: not found",
		"failed to extract layer sha256:404a: lease does not exist: not found",
		"lease \"404\": not found",
		"error adding content digest to lease: sha256:404a: lease \"moby-image-sha256:429b\": not found", // Docker 20.10
		"content digest sha256:404a: not found",
		"failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:429b) to overlayfs as \"extract-1 sha256:b\": failed to get reader from content store: content digest sha256:404a: not found",
		"unpacking failed: parent snapshot sha256:404a does not exist: not found",
		"consistency error: data changed during operation, retry", // Docker 28.5.2, while another pull moves the tag
	}},
	{puller.ErrPlatformMismatch, []string{
		"no matching manifest for linux/arm64/v8 in the manifest list entries",
		"no matching manifest for linux/arm64 in the manifest list entries: no match for platform in manifest: not found",
		"no match for platform in manifest sha256:404a: not found",
		"image with reference REF was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64",
		"image with reference REF was found but does not provide the specified platform (linux/arm64)",
		"image operating system \"windows\" cannot be used on this platform: operating system is not supported",
		"cannot download image with operating system \"windows\" when requesting \"linux\"",
		"choosing an image from manifest list docker://REF: no image found in manifest list for architecture arm64, variant \"v8\", OS linux",
		"choosing an image from manifest list docker://REF: no image found in image index for architecture arm64, variant \"\", OS linux",
	}},
	{puller.ErrNoSpace, []string{
		"write /var/lib/docker/tmp/GetImageBlob429: no space left on device",
		"failed to register layer: Error processing tar file(exit status 1): write /usr/lib/x.so: no space left on device",
		"failed to register layer: write /usr/bin/x: disk quota exceeded",
		"failed to extract layer sha256:404a: write /var/lib/containerd/x: no space left on device: unknown",
		"writing blob: adding layer with blob \"sha256:404a\": processing tar file(write /x: no space left on device): exit status 1",
		"copying system image from manifest list: writing blob: adding layer with blob \"sha256:404a\"/\"\"/\"sha256:429b\": unpacking failed (error: exit status 1; output: write /x: no space left on device)",
	}},
	{puller.ErrCorrupt, []string{
		"filesystem layer verification failed for digest sha256:429a",
		"manifest verification failed for digest sha256:404a",
		"error pulling image configuration: image config verification failed for digest sha256:404a",
		"layers from manifest don't match image configuration",
		"invalid rootfs in image configuration",
		"failed to register layer: Error processing tar file(exit status 1): unexpected EOF",
		"failed to register layer: archive/tar: invalid tar header",
		"failed commit on ref \"layer-sha256:404a\": unexpected commit digest sha256:429b, expected sha256:404a: failed precondition",
		"failed commit on ref \"layer-sha256:404a\": \"layer-sha256:404a\" failed size validation: 404 != 429: failed precondition",
		"failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:404a) to overlayfs as \"extract-1 sha256:b\": gzip: invalid checksum",
		"writing blob: layer: Digest did not match, expected sha256:404a, got sha256:429b",
	}},
	{puller.ErrRegistryUnavailable, []string{
		"Get \"https://registry.test/v2/\": dial tcp 192.0.2.1:443: connect: connection refused",
		"Get \"https://registry.test/v2/\": dial tcp: lookup registry.test on 192.0.2.53:53: no such host",
		"Get \"https://registry.test/v2/\": dial tcp: lookup registry.test: i/o timeout",
		"Get \"https://registry.test/v2/\": net/http: TLS handshake timeout",
		"Get \"https://registry.test/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
		"Get \"https://registry.test/v2/\": context deadline exceeded",
		"Get \"https://registry.test/v2/\": EOF",
		"Get \"https://registry.test/v2/\": http: server gave HTTP response to HTTPS client",
		"Get \"https://registry.test/v2/\": x509: certificate signed by unknown authority",
		"Get \"https://registry.test/v2/\": net/http: timeout awaiting response headers",
		"EOF",
		"unexpected EOF",
		"received unexpected HTTP status: 503 Service Unavailable",
		"received unexpected HTTP status: 520",
		"error parsing HTTP 502 response body: invalid character '<' looking for beginning of value: \"<html>\"",
		"read tcp 192.0.2.2:40404->192.0.2.1:443: read: connection reset by peer",
		"read tcp 192.0.2.2:42900->192.0.2.1:443: read: connection timed out",
		"stream error: stream ID 429; INTERNAL_ERROR; received from peer",
		"error pulling image configuration: download failed after attempts=6: dial tcp 192.0.2.1:443: i/o timeout",
		"failed to resolve reference \"REF\": failed to do request: Head \"https://registry.test/v2/PATH/manifests/v1\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
		"failed to resolve reference \"REF\": failed to do request: Head \"https://registry.test/v2/PATH/manifests/v1\": EOF",
		"failed to copy: read tcp 192.0.2.2:40404->192.0.2.1:443: i/o timeout",
		"failed to copy: httpReadSeeker: failed open: unexpected status code https://registry.test/v2/PATH/blobs/sha256:404a: 500 Internal Server Error",
		"failed to resolve reference \"REF\": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.test/token: 503 Service Unavailable",
		"short read: expected 429 bytes but got 404: unexpected EOF",
		"initializing source docker://REF: pinging container registry registry.test: Get \"https://registry.test/v2/\": dial tcp 192.0.2.1:443: connect: connection refused",
		"writing blob: storing blob to file \"/var/tmp/container_images_storage404/1\": happened during read: unexpected EOF",
		"reading blob sha256:404a: fetching blob: received unexpected HTTP status: 504 Gateway Timeout",
	}},
	{puller.ErrInvalidRequest, []string{
		"invalid reference format",
		"invalid reference format: repository name (X) must be lowercase",
		"\"x\" is an invalid component of \"linux/x!\": platform specifier component must match",
	}},
	{puller.ErrEngineUnavailable, []string{"context canceled"}},
	{puller.ErrInternal, []string{
		"failed to register layer: open /var/lib/docker/overlay2/x: permission denied",
		"failed to extract layer sha256:404a: mount callback failed on /x: open /y: permission denied: unknown",
		"failed to register layer: lchown /x: operation not permitted",
		"something unknown about sha256:429a and sha256:404",
	}},
}

// Images whose names look like engines' messages, and a plain one.
var named = []string{
	"registry.test/plain/image:v1",
	"registry.test/unauthorized/denied:v1",
	"registry.test/forbidden:v1",
	"registry.test:5000/x/forbidden:v1",
	"registry.test:429/x/404:403",
	"registry.test/x/y:toomanyrequests",
	"registry.test/too/many-requests/not-found:unauthorized",
	"unauthorized.test/x:v1",
	"unauthorized:v1",
	"denied:denied",
	"ratelimit:v1",
	"ratelimit/no_space",
	"registry.test/i/o:v1",
	"tls/x509:v1",
	"registry.test/x/denied@sha256:4294044034294040000000000000000000000000000000000000000000000429",
}

func TestClassifyMessages(t *testing.T) {
	e, scripted := newEngine(t)
	for i, image := range named {
		full, err := puller.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		ref := full.String()
		name := full.Name()
		domain, path, _ := strings.Cut(name, "/")
		tag := strings.TrimLeft(strings.TrimPrefix(ref, name), ":@")
		names := strings.NewReplacer("REF", ref, "NAME", name, "PATH", path, "FAMILIAR", reference.FamiliarString(full), "SHORT", reference.FamiliarName(full), "registry.test", domain, "/manifests/v1", "/manifests/"+tag,
			"manifest v1", "manifest "+tag, "%3Aa%3A", url.QueryEscape(":"+path+":"))
		for _, row := range said {
			for _, message := range row.messages {
				message = names.Replace(message)
				for how, script := range map[string]enginetest.Script{
					"in the stream": func(p *enginetest.Pull) { p.Fail(message) },
					"before it":     func(p *enginetest.Pull) { p.Refuse(http.StatusInternalServerError, message) },
				} {
					if how == "before it" && i > 0 {
						continue // what names do to messages is the same
					}
					scripted.Script(ref, script)
					got, err := pull(t, e, ref)
					if got != row.kind {
						t.Errorf("%s, %s, the kind is %q, not %q: %s", image, how, got, row.kind, message)
					}
					if err == nil || !strings.HasSuffix(err.Error(), redact.URLQueries(message)) || strings.Contains(err.Error(), "Error response from daemon") {
						t.Errorf("the message %q became %v", message, err)
					}
				}
			}
		}
	}
}

// Where an engine's message says nothing, its status counts.
func TestClassifyStatus(t *testing.T) {
	const image = "registry.test/image:v1"
	e, scripted := newEngine(t)
	for status, want := range map[int]puller.ErrorKind{
		http.StatusBadRequest:          puller.ErrInvalidRequest,
		http.StatusUnauthorized:        puller.ErrDenied,
		http.StatusForbidden:           puller.ErrDenied,
		http.StatusNotFound:            puller.ErrNotFound,
		http.StatusConflict:            puller.ErrConflict,
		http.StatusInternalServerError: puller.ErrInternal,
		http.StatusServiceUnavailable:  puller.ErrEngineUnavailable,
	} {
		scripted.Script(image, func(p *enginetest.Pull) { p.Refuse(status, "no") })
		if got, err := pull(t, e, image); got != want {
			t.Errorf("status %d: the kind is %q, not %q: %v", status, got, want, err)
		}
	}
}

// An inspect involves no registry, so network errors are the engine's.
func TestClassifyInspect(t *testing.T) {
	const image = "registry.test/image:v1"
	e, scripted := newEngine(t)
	for _, message := range []string{"unexpected EOF", "dial tcp: i/o timeout", "context deadline exceeded"} {
		scripted.OnInspect(func(string, <-chan struct{}) (int, string) { return http.StatusInternalServerError, message })
		if _, err := e.Inspect(t.Context(), image, ""); puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Errorf("%s: the kind is %q", message, puller.KindOf(err))
		}
	}
}

func TestPullStopsAtGarbledStream(t *testing.T) {
	const image = "registry.test/image:v1"
	e, scripted := newEngine(t)
	gone := make(chan struct{})
	scripted.Script(image, func(p *enginetest.Pull) {
		p.Line("<html>")
		<-p.Gone()
		close(gone)
	})
	if got, err := pull(t, e, image); got != puller.ErrTruncated {
		t.Errorf("the kind is %q: %v", got, err)
	}
	<-gone
}

func TestPullsReuseConnection(t *testing.T) {
	// In a bubble, since net/http keeps no connection whose request takes more
	// than 50 ms to be known as written, which a busy machine can need for it.
	synctest.Test(t, func(t *testing.T) {
		const image = "registry.test/image:v1"
		e, scripted := newEngine(t)
		scripts := []enginetest.Script{
			enginetest.Serve(enginetest.NewImage(image, 1)),
			func(p *enginetest.Pull) { p.Fail("unauthorized") },
			func(p *enginetest.Pull) { p.Refuse(http.StatusNotFound, "manifest unknown") },
		}
		for i := range 100 {
			scripted.Script(image, scripts[i%len(scripts)])
			pull(t, e, image)
		}
		if c := scripted.Counts(); c.Dialed != 1 || c.Pulls != 100 || c.Aborted != 0 {
			t.Errorf("after 100 pulls: %+v", c)
		}
	})
}

// A message that is too long is matched at its two ends.
func TestClassifyLongMessages(t *testing.T) {
	long := strings.Repeat("x", 400_000)
	for name, c := range map[string]struct {
		message string
		kind    puller.ErrorKind
	}{
		"beginning": {"unauthorized: " + long, puller.ErrDenied},
		"end":       {"write /var/lib/docker/" + long + ": no space left on device", puller.ErrNoSpace},
		"middle":    {long[:200_000] + " unauthorized: authentication required " + long[:200_000], puller.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			e, scripted := newEngine(t)
			scripted.Script("registry.test/image:v1", func(p *enginetest.Pull) { p.Fail(c.message) })
			if kind, err := pull(t, e, "registry.test/image:v1"); kind != c.kind {
				t.Errorf("it is %s, not %s: %.100v", kind, c.kind, err)
			}
		})
	}
}
