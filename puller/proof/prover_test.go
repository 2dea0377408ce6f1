package proof_test

import (
	"context"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/proof"
)

type freeRegistry struct {
	puller.Registry
	query puller.ManifestQuery
}

func (r *freeRegistry) Manifest(_ context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	r.query = q
	return puller.Manifest{Digest: "sha256:x"}, nil
}

func TestManifestFreeOnly(t *testing.T) {
	r := &freeRegistry{}
	p := proof.New(nil, r)
	m, err := p.Manifest(t.Context(), puller.PullRequest{Image: "registry.test/good:v1"}, "linux/amd64", "10.0.1", true)
	if want := (puller.ManifestQuery{Image: "registry.test/good:v1", Platform: "linux/amd64", OSVersion: "10.0.1", Free: true}); err != nil || m.Digest != "sha256:x" || r.query != want {
		t.Errorf("it asked %+v: %+v, %v", r.query, m, err)
	}
	if _, err := proof.New(nil, nil).Manifest(t.Context(), puller.PullRequest{}, "", "", true); err == nil {
		t.Error("without a registry there is an answer")
	}
}
