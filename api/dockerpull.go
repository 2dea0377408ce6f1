package api

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
)

// createImage is POST /images/create, which is how Docker's clients pull. It is
// a pull as any other, of the policy that theirs has: the registry is asked.
func (s *Server) createImage(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query: %v", err)
	}
	image, err := dockerReference(query)
	if err != nil {
		return err
	}
	request := puller.PullRequest{
		Image: image.String(), Platform: query.Get("platform"),
		Policy: puller.PolicyAlways,
	}
	request.Caller, request.Rules = caller(r)
	if request.Credentials, err = dockerCredentials(r.Header.Get("X-Registry-Auth")); err != nil {
		return err
	}
	job, err := s.puller.Pull(request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/jobs/"+job.ID)
	return s.streamDocker(w, r, job.ID, image)
}

// dockerCredentials reads the header as puller.ParseCredentials does, but null,
// which some clients send for none, is none, as at an engine.
func dockerCredentials(header string) (puller.Credentials, error) {
	plain, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "="))
	if header == "null" || string(bytes.TrimSpace(plain)) == "null" {
		return puller.Credentials{}, nil
	}
	return puller.ParseCredentials(header)
}

// dockerReference returns which image a query asks for. Parameters that it does
// not know are passed over, as dockerd does: clients send some to no effect.
func dockerReference(query url.Values) (reference.Named, error) {
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
		return nil, renamed("fromImage", err)
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
	// As dockerd puts them together: a digest, too, is sent as a tag.
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

// renamed has an error of an image's name begin with the field that the image
// was named in.
func renamed(field string, err error) error {
	return invalid("%s: %s", field, strings.TrimPrefix(err.Error(), "image: "))
}
