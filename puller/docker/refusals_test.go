package docker_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream"
)

// noImages are the kinds of answers with status 200 that are no image, by the body's name.
var noImages = map[string]puller.ErrorKind{
	"artifact": puller.ErrInvalidRequest, "brace": puller.ErrInvalidRequest, "html": puller.ErrInvalidRequest,
	"huge": puller.ErrInvalidRequest, "schema1": puller.ErrInvalidRequest, "text": puller.ErrInvalidRequest,
	"empty": puller.ErrInvalidRequest, "json without a token": puller.ErrInvalidRequest, // in the place of a token
	"emptyindex": puller.ErrPlatformMismatch, "nothing": puller.ErrCorrupt, "loop": puller.ErrRegistryUnavailable,
}

// An engine's message about a registry's refusal has the kind of the registry's status,
// for every engine and every body. Where the message has no status, the error is unclear.
func TestClassifyRefusals(t *testing.T) {
	const image = "registry.test/team/app:v1"
	e, scripted := newEngine(t)
	f, err := os.Open("testdata/refusals.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, n := bufio.NewScanner(f), 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		n++
		field := strings.Split(lines.Text(), "\t")
		said, _ := strconv.Atoi(field[1])
		status, _ := strconv.Atoi(field[3])
		body, message := field[4], strings.ReplaceAll(field[5], `\n`, "\n")
		want := puller.KindOfStatus(status)
		if status == http.StatusOK {
			want = noImages[body]
		}
		if field[0] == "engine-20.10" && body == "schema1" {
			want = puller.ErrCorrupt // it takes such images, and this one is garbled
		}
		if field[0] == "podman-4.3" && body == "schema1" {
			continue // the same, in a message without a form
		}
		if said == http.StatusOK {
			scripted.Script(image, func(p *enginetest.Pull) { p.Fail(message) })
		} else {
			scripted.Script(image, func(p *enginetest.Pull) { p.Refuse(said, message) })
		}
		got, err := pull(t, e, image)
		var known *puller.Error
		if !errors.As(err, &known) || got != want && !(known.Unclear && got == puller.ErrRegistryUnavailable) {
			t.Errorf("%s, %s %s %s: the kind is %q, not %q: %v", field[0], field[2], field[3], body, got, want, err)
		}
		if known != nil && known.Unclear && (status == http.StatusOK || strings.Contains(message, field[3]+" ")) {
			t.Errorf("%s, %s %s %s: the error is unclear: %v", field[0], field[2], field[3], body, err)
		}
	}
	if err := lines.Err(); err != nil || n < 500 {
		t.Errorf("there are %d recorded refusals: %v", n, err)
	}
}

// A registry's status counts, and not the body that an engine quotes after it.
func TestClassifyIgnoresQuotedBody(t *testing.T) {
	const image = "registry.test/team/app:v1"
	e, scripted := newEngine(t)
	for _, body := range []string{
		"client version 1.1 is too old", "no space left on device", "context canceled", "toomanyrequests", "manifest unknown",
		"failed to register layer: unexpected EOF", "unexpected HTTP status: 404 Not Found", "StatusCode: 429", "no matching manifest for linux/amd64",
	} {
		message := `error parsing HTTP 402 response body: invalid character '<' looking for beginning of value: "<html>` + body + `</html>"`
		scripted.Script(image, func(p *enginetest.Pull) { p.Refuse(http.StatusInternalServerError, message) })
		if got, err := pull(t, e, image); got != puller.ErrDenied {
			t.Errorf("the kind is %q: %v", got, err)
		}
	}
}

func TestClassifyExpiredURL(t *testing.T) {
	const (
		image   = "registry.test/team/app:v1"
		expired = "(a signed URL has expired; each retry gets a new one, as often as the job's retries allow)"
		cutBlob = "(the registry refused the rest of a blob that was cut; each retry asks for it again, as often as the job's retries allow)"
	)
	e, scripted := newEngine(t)
	for _, c := range []struct {
		name, message string
		kind          puller.ErrorKind
		advice        string
	}{
		{"S3", `error pulling image configuration: download failed after attempts=1: error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"`, puller.ErrRegistryUnavailable, expired},
		{"Azure", `error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [..] - Expiry [..]</AuthenticationErrorDetail></Error>"`, puller.ErrRegistryUnavailable, expired},
		{"containerd", `unknown: failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://bucket.s3.amazonaws.com/docker/registry/v2/blobs/sha256/40/data?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Expires=1200&X-Amz-Signature=4242: 403 Forbidden`, puller.ErrRegistryUnavailable, expired},
		{"range", `error parsing HTTP 416 response body: unexpected end of JSON input: ""`, puller.ErrRegistryUnavailable, cutBlob},
		{"denied", `error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"`, puller.ErrDenied, ""},
		{"denied, containerd", `unknown: failed to resolve reference "registry.test/team/app:v1": unexpected status from HEAD request to https://registry.test/v2/team/app/manifests/v1: 403 Forbidden`, puller.ErrDenied, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripted.Script(image, func(p *enginetest.Pull) { p.Fail(c.message) })
			if got, err := pull(t, e, image); got != c.kind || !strings.HasSuffix(err.Error(), c.advice) || c.advice == "" && strings.Contains(err.Error(), "retries") {
				t.Errorf("the kind is %q, not %q: %v", got, c.kind, err)
			}
		})
	}
}

func TestClassifyOverwrittenDigest(t *testing.T) {
	const image = "registry.test/team/app@sha256:4040404040404040404040404040404040404040404040404040404040404040"
	e, scripted := newEngine(t)
	scripted.Script(image, func(p *enginetest.Pull) {
		p.Fail("Cannot overwrite digest sha256:4040404040404040404040404040404040404040404040404040404040404040")
	})
	if got, err := pull(t, e, image); got != puller.ErrConflict || !strings.HasSuffix(err.Error(), "name the platform's own manifest by its digest)") {
		t.Errorf("the kind is %q: %v", got, err)
	}
}

// The query string of a signed URL lets anyone read what the URL names.
func TestPullHidesSignedURLs(t *testing.T) {
	const image = "registry.test/team/app:v1"
	for name, query := range map[string]string{
		"S3": "X-Amz-Date=20260101T000000Z&X-Amz-Signature=5ec4e7", "Google": "X-Goog-Signature=5ec4e7&x=1", "CloudFront": "Expires=1&Signature=5ec4e7~_&Key-Pair-Id=K", "Azure": "se=2026&sig=5ec4e7%2B%3D",
	} {
		message := "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://storage.test/blob?" + query + ": 503 Service Unavailable"
		for how, script := range map[string]enginetest.Script{
			"in the stream": func(p *enginetest.Pull) {
				p.Line(`{"status":"Retrying https://storage.test/blob?` + query + ` in 5 seconds","id":"aaaaaaaaaaaa"}`)
				p.Fail(message)
			},
			"before it": func(p *enginetest.Pull) { p.Refuse(http.StatusInternalServerError, message) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				e, scripted := newEngine(t)
				scripted.Script(image, script)
				var passed []pullstream.Message
				err := e.Pull(t.Context(), puller.Pull{Image: image}, func(m pullstream.Message) { passed = append(passed, m) })
				if puller.KindOf(err) != puller.ErrRegistryUnavailable || !strings.HasSuffix(err.Error(), "https://storage.test/blob?(hidden): 503 Service Unavailable") {
					t.Errorf("error: %v", err)
				}
				text, _ := json.Marshal(passed)
				if strings.Contains(string(text), "5ec4e7") || how == "in the stream" && !strings.Contains(string(text), "blob?(hidden) in 5 seconds") {
					t.Errorf("messages: %s", text)
				}
			})
		}
	}
}
