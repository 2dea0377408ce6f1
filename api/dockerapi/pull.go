package dockerapi

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/tracing"
)

// createImage is POST /images/create, the pull of Docker's clients. Its policy is
// that of dockerd: the registry is always asked.
func (h *Handler) createImage(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query: %v", err)
	}
	image, err := parseReference(query)
	if err != nil {
		return err
	}
	request := puller.PullRequest{
		Image: image.String(), Platform: query.Get("platform"),
		Policy: puller.PolicyAlways,
	}
	request.Caller, request.Rules = h.Caller(r)
	request.TraceParent = tracing.Clean(r.Header.Get("traceparent"))
	if request.Credentials, err = parseCredentials(r.Header.Get("X-Registry-Auth")); err != nil {
		return err
	}
	job, err := h.Service.Pull(request)
	if err != nil {
		return err
	}
	h.Accepted(r, job)
	w.Header().Set("Location", "/v1/jobs/"+job.ID)
	return h.stream(w, r, job.ID, image)
}

// parseCredentials is puller.ParseCredentials, but takes null, which some clients
// send, for no credentials, as an engine does.
func parseCredentials(header string) (puller.Credentials, error) {
	plain, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "="))
	if header == "null" || string(bytes.TrimSpace(plain)) == "null" {
		return puller.Credentials{}, nil
	}
	return puller.ParseCredentials(header)
}

// parseReference returns the image that a query names. It ignores parameters that it
// does not know, as dockerd does: clients send some that have no effect.
func parseReference(query url.Values) (reference.Named, error) {
	for _, name := range []string{"fromSrc", "repo", "message", "changes"} {
		if query.Get(name) != "" {
			return nil, invalid("%s: towline pulls and does not import; ask the engine itself", name)
		}
	}
	name, tag := query.Get("fromImage"), query.Get("tag")
	if name == "" {
		return nil, invalid("fromImage: missing; name an image, such as alpine")
	}
	full, err := puller.ParseReference(name)
	if err != nil {
		return nil, invalid("fromImage: %s", strings.TrimPrefix(err.Error(), "image: "))
	}
	named, err := reference.ParseNormalizedNamed(name)
	switch {
	case err != nil:
		return nil, invalid("fromImage: %w", err)
	case tag == "" && reference.IsNameOnly(named):
		return nil, invalid("tag: missing, which asks for all tags of %s; towline pulls one image at a time: name its tag or digest", reference.FamiliarName(named))
	case tag == "":
		return full, nil
	}
	// dockerd puts them together in this way. Clients send a digest as a tag too.
	if strings.Contains(tag, ":") {
		full, err = puller.ParseReference(reference.TrimNamed(named).String() + "@" + tag)
	} else {
		full, err = reference.WithTag(named, tag)
	}
	if err != nil {
		return nil, invalid("tag: %.80q is neither a tag nor a digest", tag)
	}
	return full, nil
}
