package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

// refusing is a registry that answers each request for a manifest as its repository
// says: "s412-json" has the status 412 and an error with a code of the registry's own.
func refusing(w http.ResponseWriter, r *http.Request) {
	repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	status, body, ok := strings.Cut(strings.TrimPrefix(repo, "s"), "-")
	if !ok {
		return // /v2/ itself
	}
	code, _ := strconv.Atoi(status)
	types := map[string]string{"json": "application/json", "html": "text/html", "text": "text/plain", "artifact": "application/vnd.oci.image.manifest.v1+json"}
	w.Header().Set("Content-Type", types[body])
	w.WriteHeader(code)
	switch body {
	case "json":
		fmt.Fprintf(w, `{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"why it is %d"}]}`, code)
	case "html":
		fmt.Fprint(w, "<html>Sign in to the network</html>")
	case "text":
		fmt.Fprint(w, `{"schemaVersion":2,"config":{},"layers":[]}`)
	case "artifact":
		fmt.Fprint(w, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","size":2,`+
			`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`)
	}
}

// A registry's refusal is of one kind, by a pull of the engine's and by a plan.
func TestRefusalKinds(t *testing.T) {
	p := planner(t)
	s := httptest.NewServer(http.HandlerFunc(refusing))
	defer s.Close()
	cases := map[string]puller.ErrorKind{
		"s200-html": puller.ErrInvalidRequest, "s200-text": puller.ErrInvalidRequest, "s200-artifact": puller.ErrInvalidRequest,
	}
	for _, status := range []int{400, 401, 402, 403, 404, 408, 410, 412, 416, 418, 423, 425, 451, 500, 503} {
		for _, body := range []string{"json", "html", "empty"} {
			cases[fmt.Sprintf("s%d-%s", status, body)] = puller.KindOfStatus(status)
		}
	}
	none := 0
	for repo, want := range cases {
		ref := s.Listener.Addr().String() + "/" + repo + ":v1"
		if planned := plan(t, p, ref).Images[0]; planned.Error == nil || planned.Error.Kind != want {
			t.Errorf("%s: a plan says %+v, not %s", repo, planned.Error, want)
		}
		job, err := p.Pull(puller.PullRequest{Image: ref, Policy: puller.PolicyAlways, Retries: &none})
		if err == nil {
			job, err = p.Wait(t.Context(), job.ID)
		}
		switch {
		case err != nil || job.Error == nil || job.Error.Kind != want:
			t.Errorf("%s: a pull says %+v, not %s (%v)", repo, job.Error, want, err)
		case want == puller.ErrDenied && strings.HasSuffix(repo, "-json") && !strings.Contains(job.Error.Message, "why it is"):
			t.Errorf("%s: the registry's sentence is missing: %s", repo, job.Error.Message)
		}
	}
}
