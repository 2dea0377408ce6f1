package peers

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/sharing"
)

// Media types of manifests that need not name theirs (OCI image specification 1.1).
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
)

// mediaType returns the media type of a manifest by its content: what a host says of it is
// not under the digest.
func mediaType(body []byte) string {
	var m struct {
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	switch {
	case json.Unmarshal(body, &m) != nil:
		return "application/octet-stream"
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return typeIndex
	}
	return typeManifest
}

// smallManifest is how large a manifest may be to be remembered, in bytes.
const smallManifest = 256 << 10

func manifestKey(i sharing.Image, digest string) string {
	return "manifest " + i.Repository + "@" + digest
}

// Manifest implements sharing.Peers. A manifest comes as a chunk does. A small one is
// remembered, so that this host asks the registry once, for itself and for others.
func (n *Node) Manifest(ctx context.Context, i sharing.Image, digest string, from sharing.Source) (puller.RawManifest, error) {
	key := manifestKey(i, digest)
	for range 3 { // a large one may go from the flight that brought it
		if raw, ok := n.manifests.Get(key); ok {
			return raw, nil
		}
		var found puller.RawManifest
		err := n.flights.do(ctx, key, func(ctx context.Context) error {
			raw, err := n.bringManifest(ctx, i, digest, from)
			if err == nil && len(raw.Body) <= smallManifest {
				n.manifests.Add(key, raw)
			}
			found = raw
			return err
		})
		if err != nil { // the flight may go on for others
			return puller.RawManifest{}, err
		}
		if found.Body != nil {
			return found, nil
		}
	}
	return n.bringManifest(ctx, i, digest, from)
}

func (n *Node) bringManifest(ctx context.Context, i sharing.Image, digest string, from sharing.Source) (raw puller.RawManifest, err error) {
	err = n.bring(ctx, want{
		image: i, key: manifestKey(i, digest), seed: tree.Seed(digest, 0),
		there: func() bool { return raw.Body != nil },
		try: func(ctx context.Context, g fleet.Group, m fleet.Member, only bool) (int64, error) {
			body, err := n.client.Manifest(ctx, wire.Question{Group: g, To: m, Image: i, Digest: digest, Only: only})
			if err == nil {
				raw = puller.RawManifest{Body: body, MediaType: mediaType(body), Digest: digest}
			}
			return int64(len(body)), err
		},
		registry: func(ctx context.Context) error {
			n.metrics.manifests.Inc()
			found, err := from.Manifest(ctx, digest)
			if err == nil && found.Digest != digest {
				err = errors.New("the registry has another manifest for the digest")
			}
			if err == nil {
				raw = found
			}
			return err
		},
	})
	return raw, err
}
