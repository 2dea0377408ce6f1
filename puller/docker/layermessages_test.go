package docker_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// What engines say before the cause, and after it.
var unpackings = []struct{ before, after string }{
	{"failed to register layer: Error processing tar file(exit status 1): ", ""}, // 20.10
	{"failed to register layer: ", ""},                                           // 23.0 and later
	{`failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:3294ca520f44daca62862c9a63457e7ca8ff5816d28bd41912261fa80e16459f) to overlayfs as "extract-279043870-8ay8 sha256:798a9c840c7be4e811737634a47ee67d4e203f0d95ba46e16d91ac93335086b3": mount callback failed on /var/lib/docker/containerd/daemon/tmpmounts/containerd-mount1997119283: `, ""},
	{"failed to extract layer sha256:3294ca52: mount callback failed on /m: ", ": unknown"},
	{`writing blob: adding layer with blob "sha256:3294ca52": processing tar file(`, "): exit status 1"}, // Podman
	{`copying system image from manifest list: writing blob: adding layer with blob "sha256:3294ca52"/""/"sha256:429b": unpacking failed (error: exit status 1; output: `, ")"},
}

func TestClassifyUnpacking(t *testing.T) {
	const image = "registry.test/team/app:v1"
	e, scripted := newEngine(t)
	for cause, want := range map[string]puller.ErrorKind{
		"archive/tar: invalid tar header":                  puller.ErrCorrupt,
		"unexpected EOF":                                   puller.ErrCorrupt,
		"gzip: invalid checksum":                           puller.ErrCorrupt,
		"flate: corrupt input before offset 5":             puller.ErrCorrupt,
		"invalid input: magic number mismatch":             puller.ErrCorrupt, // no zstd, though it is said to be
		"write /usr/lib/x.so: no space left on device":     puller.ErrNoSpace,
		"write /usr/lib/x.so: disk quota exceeded":         puller.ErrNoSpace,
		"mkdir /usr: read-only file system":                puller.ErrInternal,
		"write /x: input/output error":                     puller.ErrInternal,
		"signal: killed":                                   puller.ErrInternal,
		"lchown /x: operation not permitted":               puller.ErrInternal,
		"open /x: permission denied":                       puller.ErrInternal,
		"fork/exec /proc/self/exe: cannot allocate memory": puller.ErrInternal,
		"open /nnnn: file name too long":                   puller.ErrInvalidRequest,
		"link /nowhere/x /a: no such file or directory":    puller.ErrInvalidRequest,
		"open /a/b: not a directory":                       puller.ErrInvalidRequest,
		"open /a: too many levels of symbolic links":       puller.ErrInvalidRequest,
		"context canceled":                                 puller.ErrEngineUnavailable,
		// A layer's files have what names they like.
		"open /unexpected EOF/no space left on device: input/output error":                      puller.ErrInternal,
		"open /archive/tar: invalid tar header: permission denied":                              puller.ErrInternal,
		"mkdir /toomanyrequests/unauthorized/manifest unknown: read-only file system":           puller.ErrInternal,
		"write /link a b: no such file or directory: no space left on device":                   puller.ErrNoSpace,
		"open /error parsing HTTP 404 response body/StatusCode: 429/x: operation not permitted": puller.ErrInternal,
	} {
		for _, u := range unpackings {
			message := u.before + cause + u.after
			scripted.Script(image, func(p *enginetest.Pull) { p.Fail(message) })
			got, err := pull(t, e, image)
			if got != want {
				t.Errorf("the kind is %q, not %q: %v", got, want, err)
			}
			var known *puller.Error
			if unclear := cause == "archive/tar: invalid tar header"; !errors.As(err, &known) || known.Unclear != unclear {
				t.Errorf("that the registry is to be asked is not %v: %v", unclear, err)
			}
		}
	}
	for message, want := range map[string]puller.ErrorKind{
		"failed to register layer: Error processing tar file(gzip: invalid checksum): ":                                        puller.ErrCorrupt,
		"failed to register layer: Error processing tar file(exit status 1): open /a/x: no such file or directory":             puller.ErrInvalidRequest,
		"failed to register layer: open /var/lib/docker/overlay2/x/committed: no such file or directory":                       puller.ErrInternal,
		"mkdir /var/lib/docker/tmp: read-only file system":                                                                     puller.ErrInternal,
		"open /var/lib/docker/tmp/GetImageBlob404429403: read-only file system":                                                puller.ErrInternal,
		"write /var/lib/docker/tmp/GetImageBlob404429403: input/output error":                                                  puller.ErrInternal,
		`wrong diff id "sha256:8143" calculated on extraction "sha256:dd63", desc "sha256:e4f6"`:                               puller.ErrCorrupt,
		"failed to unpack image on snapshotter overlayfs: mismatched image rootfs and manifest layers":                         puller.ErrCorrupt,
		"unable to fetch descriptor (sha256:e3b0) which reports content size of zero: invalid argument":                        puller.ErrInvalidRequest,
		`failed commit on ref "layer-sha256:404a": unexpected commit size 42, expected 404: failed precondition`:               puller.ErrCorrupt,
		"copying system image from manifest list: Manifest does not match provided manifest digest sha256:404a":                puller.ErrCorrupt,
		"failed to get layer sha256:404a: layer does not exist":                                                                puller.ErrTruncated,
		"content digest sha256:404a: not found":                                                                                puller.ErrTruncated,
		`lease does not exist: not found`:                                                                                      puller.ErrTruncated,
		`lease "1234-abc": not found`:                                                                                          puller.ErrTruncated,
		`failed commit on ref "layer-sha256:404a": rename /x/ingest/1/data /x/blobs/sha256/404a: no such file or directory`:    puller.ErrTruncated,
		`failed to prepare extraction snapshot "extract-1 sha256:404a": parent snapshot sha256:404b does not exist: not found`: puller.ErrTruncated,
		"unexpected media type text/html for sha256:404a: not found":                                                           puller.ErrInvalidRequest,
		"'scratch' is a reserved name":                                                                                         puller.ErrInvalidRequest,
	} {
		scripted.Script(image, func(p *enginetest.Pull) { p.Fail(message) })
		if got, err := pull(t, e, image); got != want {
			t.Errorf("the kind is %q, not %q: %v", got, want, err)
		}
	}
}

// Without a pull, a store that misses what an image needs is one without it.
func TestInspectHalfRemovedImage(t *testing.T) {
	for _, message := range []string{
		"failed to get layer sha256:404a: layer does not exist",
		"consistency error: data changed during operation, retry",
	} {
		e, scripted := newEngine(t)
		scripted.OnInspect(func(string, <-chan struct{}) (int, string) { return http.StatusInternalServerError, message })
		if _, err := e.Inspect(t.Context(), "registry.test/team/app:v1", ""); puller.KindOf(err) != puller.ErrNotFound {
			t.Errorf("%s: %v", message, err)
		}
	}
}
