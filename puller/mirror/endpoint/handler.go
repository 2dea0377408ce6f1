package endpoint

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "crypto/sha256" // digests in paths
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
)

// handler answers requests.
type handler struct {
	content Content
	log     logrus.FieldLogger
	hosts   map[string]bool
}

// The forms of names and tags (OCI distribution specification 1.1, "Pulling
// manifests"), and of registries.
var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm      = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	registryForm = regexp.MustCompile(`^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
)

// mostName is the longest name of a repository or a registry in bytes.
const mostName = 255

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	a := &answer{w, http.NewResponseController(w)}
	a.renew()
	a.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	a.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.URL.Host != "" || !h.hosts[r.Host]:
		a.refuse(http.StatusMisdirectedRequest, "DENIED", "this is a mirror for the engine of this machine")
	case r.ContentLength != 0:
		a.control.SetReadDeadline(time.Now()) // it is not read
		a.Header().Set("Connection", "close")
		a.refuse(http.StatusBadRequest, "UNSUPPORTED", "a request with a body is not supported")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		a.Header().Set("Allow", "GET, HEAD")
		a.refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "only GET and HEAD are supported")
	case path == "/v2/":
		a.send(r, "application/json", []byte("{}"))
	default:
		h.serve(a, r, path)
	}
}

// serve answers a request for a manifest, a blob or referrers.
func (h *handler) serve(a *answer, r *http.Request, path string) {
	t, ok := parseTarget(path, r.URL)
	if !ok {
		a.unknown(t)
		return
	}
	var err error
	switch t.kind {
	case "manifests":
		err = a.manifest(r, t, h.content.Manifest)
	case "blobs":
		err = h.blob(a, r, t)
	case "referrers":
		err = a.manifest(r, t, h.content.Referrers)
	}
	if err == nil {
		return
	}
	// Where the registry refuses the engine too, what the engine tells is this answer, and not the
	// registry's. So it says what the registry said.
	kind := puller.KindOf(err)
	if kind != puller.ErrNotFound {
		h.log.WithFields(logrus.Fields{"repository": t.name, "reference": t.reference, logrus.ErrorKey: err}).Debug("the engine was refused what it asked for")
	}
	switch kind {
	case puller.ErrNotFound:
		a.unknown(t)
	case puller.ErrDenied:
		a.refuse(http.StatusForbidden, "DENIED", "the registry denied it to Towline")
	case puller.ErrRateLimited:
		a.refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", "the registry limits the rate of Towline")
	default:
		a.refuse(http.StatusBadGateway, "UNKNOWN", "not available")
	}
}

// target is what a request asks for.
type target struct{ ns, name, kind, reference string }

// parseTarget returns what a request with a path, as the client sent it, and a URL asks
// for. Paths with an encoding are not known: no name needs one.
func parseTarget(path string, u *url.URL) (t target, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok || path != u.Path {
		return t, false
	}
	at := strings.LastIndexByte(rest, '/')
	if at < 0 {
		return t, false
	}
	rest, t.reference = rest[:at], rest[at+1:]
	if at = strings.LastIndexByte(rest, '/'); at < 0 {
		return t, false
	}
	t.name, t.kind = rest[:at], rest[at+1:]
	if len(t.name) > mostName || !nameForm.MatchString(t.name) {
		return t, false
	}
	switch t.kind {
	case "manifests":
		ok = tagForm.MatchString(t.reference) || isDigest(t.reference)
	case "blobs", "referrers":
		ok = isDigest(t.reference)
	default:
		return t, false
	}
	ns := u.Query()["ns"]
	if len(ns) > 0 {
		t.ns = ns[0]
		ok = ok && len(ns) == 1 && len(t.ns) <= mostName && registryForm.MatchString(t.ns)
	}
	return t, ok
}

func isDigest(s string) bool { return len(s) <= 256 && digest.Digest(s).Validate() == nil }

// manifest sends a manifest, or what has the form of one.
func (a *answer) manifest(r *http.Request, t target, get func(ctx context.Context, ns, name, reference string) (puller.RawManifest, error)) error {
	m, err := get(r.Context(), t.ns, t.name, t.reference)
	if err != nil {
		return err
	}
	if t.kind == "manifests" {
		if isDigest(t.reference) && m.Digest != t.reference {
			return errors.New("the content has another manifest for the digest")
		}
		a.Header().Set("Docker-Content-Digest", m.Digest)
	}
	a.send(r, m.MediaType, m.Body)
	return nil
}

// blob sends a blob while it arrives.
func (h *handler) blob(a *answer, r *http.Request, t target) error {
	b, err := h.content.Blob(r.Context(), t.ns, t.name, t.reference)
	if err != nil {
		return err
	}
	defer b.Close()
	size := b.Size()
	from, to, status := int64(0), size, http.StatusOK
	if r.Method == http.MethodGet && r.Header.Get("If-Range") == "" { // nothing has a validator
		from, to, status = parseRange(r.Header.Values("Range"), size)
	}
	header := a.Header()
	header.Set("Docker-Content-Digest", t.reference)
	header.Set("Accept-Ranges", "bytes")
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		header.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		a.refuse(status, "RANGE_INVALID", "the range is not within the blob")
		return nil
	case http.StatusPartialContent:
		header.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+strconv.FormatInt(size, 10))
	}
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Length", strconv.FormatInt(to-from, 10))
	a.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	// At once: an engine waits 30 s for a head, and for a body as long as it takes.
	if a.control.Flush() != nil {
		return nil
	}
	in := b.NewReader(r.Context(), from)
	defer in.Close()
	if err := a.copy(io.LimitReader(in, to-from), to-from); err != nil {
		if r.Context().Err() == nil {
			h.log.WithFields(logrus.Fields{"digest": t.reference, logrus.ErrorKey: err}).Debug("the engine was cut off in a blob")
		}
		panic(http.ErrAbortHandler) // a clean end would look like all of the blob
	}
	return nil
}

// answer is the answer to a request. A client that reads nothing for readLimit is
// disconnected.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (a *answer) renew() { a.control.SetWriteDeadline(time.Now().Add(readLimit)) }

// send sends something that is there whole.
func (a *answer) send(r *http.Request, mediaType string, body []byte) {
	a.Header().Set("Content-Type", cmp.Or(mediaType, "application/octet-stream"))
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.renew()
	a.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		a.Write(body)
	}
}

// unknown says that something is not served, and nothing else.
func (a *answer) unknown(t target) {
	code := "NAME_UNKNOWN"
	switch t.kind {
	case "manifests", "referrers":
		code = "MANIFEST_UNKNOWN"
	case "blobs":
		code = "BLOB_UNKNOWN"
	}
	a.refuse(http.StatusNotFound, code, "not served here")
}

// refuse sends an error in the form of the OCI distribution specification ("Error
// codes"). The texts are constants without characters that JSON encodes.
func (a *answer) refuse(status int, code, message string) {
	body := `{"errors":[{"code":"` + code + `","message":"` + message + `"}]}` + "\n"
	a.Header().Set("Content-Type", "application/json")
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.renew()
	a.WriteHeader(status)
	io.WriteString(a, body) // net/http drops it in an answer to HEAD
}

// pieces are buffers for copy.
var pieces = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// copy sends as many bytes of a reader as they come.
func (a *answer) copy(in io.Reader, length int64) error {
	buf := pieces.Get().(*[128 << 10]byte)
	defer pieces.Put(buf)
	for sent := int64(0); sent < length; {
		n, err := in.Read(buf[:])
		a.renew()
		if n > 0 {
			if _, err := a.Write(buf[:n]); err != nil {
				return err
			}
			if err := a.control.Flush(); err != nil {
				return err
			}
			sent += int64(n)
		}
		switch {
		case sent == length:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}
