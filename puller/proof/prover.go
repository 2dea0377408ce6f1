// Package proof says what an image must show to be what was asked for. It is the
// only place that does.
package proof

import (
	"context"
	"errors"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
)

// Wanted is what an image is to be.
type Wanted struct {
	Image    string // a reference in full form, or an ID
	Platform string // os/arch[/variant]; "" for any
}

// Prover proves images. Its methods may be called from anywhere.
type Prover struct {
	engine   engines.Engine
	registry puller.Registry // nil for none
	proofs   *proofs
}

// New returns a Prover that asks an engine and, unless it is nil, registries.
func New(engine engines.Engine, registry puller.Registry) *Prover {
	return &Prover{engine: engine, registry: registry, proofs: newProofs()}
}

// Mismatch returns nil if an image that the engine showed is what is wanted, by all
// that can be known without a registry, and else why it is not.
func (p *Prover) Mismatch(i puller.Image, w Wanted) error {
	_, err := p.verdict(i, w, nil)
	return err
}

// Has reports whether an image is what its repository has under a digest.
func (p *Prover) Has(i puller.Image, w Wanted, digest string) bool {
	known, _ := p.proofs.get(i.ID, w)
	return digest != "" && (known == digest || i.HasDigest(names.ParseName(w.Image).Repository, digest))
}

// Learn takes in what a job proved before a restart.
func (p *Prover) Learn(j puller.Job) {
	if r := j.Result; j.State == puller.StateSucceeded && r != nil {
		p.proofs.put(r.ImageID, Wanted{j.Image, j.Platform}, r.Digest)
	}
}

// ErrNoRegistry is the error where there is no registry to ask. Images can be pulled all
// the same.
var ErrNoRegistry = errors.New("there is no registry to ask")

// Manifest asks the registry what an image is made of, for the engine's platform
// own where the request names none. version is that of the operating system. With
// free it asks only what costs nothing (puller.ManifestQuery).
func (p *Prover) Manifest(ctx context.Context, r puller.PullRequest, own, version string, free bool) (puller.Manifest, error) {
	if p.registry == nil {
		return puller.Manifest{}, ErrNoRegistry
	}
	platform := r.Platform
	if platform == "" {
		platform = own
	}
	return p.registry.Manifest(ctx, puller.ManifestQuery{Image: r.Image, Platform: platform, OSVersion: version, Credentials: r.Credentials, Free: free})
}
