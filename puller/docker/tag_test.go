package docker_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

func TestTag(t *testing.T) {
	const digest = "sha256:5bcf3c836b179f63b0d300c8d24a65ea1c33be7a9d1dbb002d9046dcd42512d4"
	var asked string
	status := http.StatusCreated
	e := newHTTPEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tag") {
			asked = r.Method + " " + r.URL.Path + "?" + r.URL.RawQuery
			w.WriteHeader(status)
		}
	})
	image, name := "registry.test/web@"+digest, "registry.test/web:v1"
	if err := e.Tag(context.Background(), image, name); err != nil || asked != "POST /v1.41/images/"+image+"/tag?repo=registry.test%2Fweb&tag=v1" {
		t.Errorf("it asks %s: %v", asked, err)
	}
	status = http.StatusNotFound
	if err := e.Tag(context.Background(), image, name); puller.KindOf(err) != puller.ErrNotFound {
		t.Error(err)
	}
	for _, bad := range []string{"registry.test/web", "web:v1", "No"} {
		if err := e.Tag(context.Background(), image, bad); puller.KindOf(err) != puller.ErrInvalidRequest {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
