package puller

import (
	"context"
	"testing"
)

type freeRegistry struct {
	Registry
	query ManifestQuery
}

func (r *freeRegistry) Manifest(_ context.Context, q ManifestQuery) (Manifest, error) {
	r.query = q
	return Manifest{Digest: "sha256:x"}, nil
}

func TestWhatIsFreeIsAskedForAsSuch(t *testing.T) {
	r := &freeRegistry{}
	p := &Puller{opts: Options{Registry: r}}
	m, err := p.manifest(t.Context(), PullRequest{Image: "registry.test/good:v1"}, "linux/amd64", "10.0.1", true)
	if want := (ManifestQuery{Image: "registry.test/good:v1", Platform: "linux/amd64", OSVersion: "10.0.1", Free: true}); err != nil || m.Digest != "sha256:x" || r.query != want {
		t.Errorf("it asked %+v: %+v, %v", r.query, m, err)
	}
	if _, err := new(Puller).manifest(t.Context(), PullRequest{}, "", "", true); err == nil {
		t.Error("without a registry there is an answer")
	}
}
