package docker_test

import (
	"bufio"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// noImages are the kinds of what a registry answers with 200 and is no image, by
// what it is.
var noImages = map[string]puller.ErrorKind{
	"artifact": puller.ErrInvalidRequest, "brace": puller.ErrInvalidRequest, "html": puller.ErrInvalidRequest,
	"huge": puller.ErrInvalidRequest, "schema1": puller.ErrInvalidRequest, "text": puller.ErrInvalidRequest,
	"empty": puller.ErrInvalidRequest, "json without a token": puller.ErrInvalidRequest, // in the place of a token
	"emptyindex": puller.ErrPlatformMismatch, "nothing": puller.ErrCorrupt, "loop": puller.ErrRegistryUnavailable,
}

// What an engine says of a registry's refusal has the kind of the registry's
// status, whatever the engine and the refusal's body. Where the engine tells no
// status, the error says that the registry is to be asked.
func TestARefusalHasTheKindOfItsStatus(t *testing.T) {
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
		body, words := field[4], strings.ReplaceAll(field[5], `\n`, "\n")
		want := puller.KindOfStatus(status)
		if status == http.StatusOK {
			want = noImages[body]
		}
		if field[0] == "engine-20.10" && body == "schema1" {
			want = puller.ErrCorrupt // it takes such images, and this one is garbled
		}
		if field[0] == "podman-4.3" && body == "schema1" {
			continue // the same, in words that have no form
		}
		if said == http.StatusOK {
			scripted.Script(image, func(p *enginetest.Pull) { p.Fail(words) })
		} else {
			scripted.Script(image, func(p *enginetest.Pull) { p.Refuse(said, words) })
		}
		got, err := pull(t, e, image)
		var known *puller.Error
		if !errors.As(err, &known) || got != want && !(known.Unclear && got == puller.ErrRegistryUnavailable) {
			t.Errorf("%s, %s %s %s: the kind is %q, not %q: %v", field[0], field[2], field[3], body, got, want, err)
		}
		if known != nil && known.Unclear && (status == http.StatusOK || strings.Contains(words, field[3]+" ")) {
			t.Errorf("%s, %s %s %s: it is called unclear: %v", field[0], field[2], field[3], body, err)
		}
	}
	if err := lines.Err(); err != nil || n < 500 {
		t.Errorf("there are %d recorded refusals: %v", n, err)
	}
}

// What a registry's body says beside its status changes nothing.
func TestABodyDoesNotSpeakForTheEngine(t *testing.T) {
	const image = "registry.test/team/app:v1"
	e, scripted := newEngine(t)
	for _, body := range []string{
		"client version 1.1 is too old", "no space left on device", "context canceled", "toomanyrequests", "manifest unknown",
		"failed to register layer: unexpected EOF", "unexpected HTTP status: 404 Not Found", "StatusCode: 429", "no matching manifest for linux/amd64",
	} {
		words := `error parsing HTTP 402 response body: invalid character '<' looking for beginning of value: "<html>` + body + `</html>"`
		scripted.Script(image, func(p *enginetest.Pull) { p.Refuse(http.StatusInternalServerError, words) })
		if got, err := pull(t, e, image); got != puller.ErrDenied {
			t.Errorf("the kind is %q: %v", got, err)
		}
	}
}

func TestASignedAddressThatHasExpiredIsAskedForOnceMore(t *testing.T) {
	const image = "registry.test/team/app:v1"
	e, scripted := newEngine(t)
	for words, want := range map[string]puller.ErrorKind{
		`error pulling image configuration: download failed after attempts=1: error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"`:                puller.ErrRegistryUnavailable,
		`error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [..] - Expiry [..]</AuthenticationErrorDetail></Error>"`:          puller.ErrRegistryUnavailable,
		`unknown: failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://bucket.s3.amazonaws.com/docker/registry/v2/blobs/sha256/40/data?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Expires=1200&X-Amz-Signature=4242: 403 Forbidden`: puller.ErrRegistryUnavailable,
		`error parsing HTTP 416 response body: unexpected end of JSON input: ""`:                                                                                                 puller.ErrRegistryUnavailable,
		`error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"`: puller.ErrDenied,
		`unknown: failed to resolve reference "registry.test/team/app:v1": unexpected status from HEAD request to https://registry.test/v2/team/app/manifests/v1: 403 Forbidden`: puller.ErrDenied,
	} {
		scripted.Script(image, func(p *enginetest.Pull) { p.Fail(words) })
		if got, err := pull(t, e, image); got != want {
			t.Errorf("the kind is %q, not %q: %v", got, want, err)
		}
	}
}
