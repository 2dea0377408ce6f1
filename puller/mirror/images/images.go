// Package images fetches images with the credentials of callers: it reads their manifests,
// fetches their blobs into the cache, each once for all who want it, and gives them to
// readers while they arrive. A blob that is there is given only to who was shown a part of
// it by the registry. What an image is fetched for, a job or another host, it does not know.
package images

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/names"
)

// Options are what images are made with.
type Options struct {
	Registry puller.Registry
	Peers    sharing.Peers // hosts that share images with this one; nil for none
	Store    *blobs.Store
	Fetcher  *fetch.Fetcher
	Key      []byte // for puller.Credentials.Identity
	// Fetched, if not nil, is called after each fetch from a registry, from anywhere.
	Fetched func(registry string)
	// FromRegistry counts bytes that come from registries, and Waited the seconds that
	// readers wait for bytes.
	FromRegistry, Waited prometheus.Counter
}

// Images opens images. All of them fetch a blob once. Its methods may be called from
// anywhere.
type Images struct {
	o       Options
	flights *flights
}

// New returns Images. It opens none.
func New(o Options) *Images {
	return &Images{o: o, flights: newFlights()}
}

// Open opens an image with the credentials of a request. It does not ask the registry. What
// is fetched ends with life. Close must be called once nobody uses the image. shared is the
// image if other hosts share it with this one, and nil for one that none do: the
// credentials of a shared one must be this host's own.
func (s *Images) Open(ctx, life context.Context, r puller.Pull, shared *sharing.Image) (*Image, error) {
	repository, err := s.o.Registry.Repository(ctx, r.Image, r.Credentials)
	if err != nil {
		return nil, err
	}
	identity := r.Credentials.Identity(s.o.Key)
	if shared != nil {
		identity = sharedIdentity(s.o.Key, *shared)
	}
	img := &Image{
		images: s, request: r, repository: repository,
		access: access{names.RegistryOf(r.Image), identity, repository, s.flights}, shared: shared, arrived: make(chan struct{}, 1),
		blobs: make(map[string]*blobs.Blob), wanted: make(map[string]bool), present: make(map[string]bool),
	}
	img.Manifests = newManifests(r.Image, repository, img.fetchManifest)
	img.ctx, img.cancel = context.WithCancelCause(life)
	return img, nil
}

// sharedIdentity is who has access to what comes from other hosts: this host itself, to
// this repository. So what came so is given to a caller, or to the hosts that share an
// image of another repository, only after that registry has shown a part of it.
func sharedIdentity(key []byte, shared sharing.Image) (id [sha256.Size]byte) {
	sum := hmac.New(sha256.New, key)
	sum.Write([]byte("shared\x00" + shared.Repository))
	sum.Sum(id[:0])
	return id
}
