package way

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/alias"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/stream/pullstream"
)

// Trial is an image of one empty layer that nobody else has: its configuration holds a
// random number. It is served from memory. Its methods may be called from anywhere.
type Trial struct {
	manifest puller.RawManifest
	blobs    map[string][]byte
	asked    atomic.Bool // the engine has asked for the manifest
}

// Media types of the trial's image (Docker, "Image Manifest V 2, Schema 2"), which
// every engine takes.
const (
	typeManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeConfig   = "application/vnd.docker.container.image.v1+json"
	typeLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// newTrial returns a trial's image for an engine's own platform.
func newTrial(engine puller.EngineInfo) (*Trial, error) {
	system, architecture, ok := strings.Cut(engine.Platform, "/")
	if !ok {
		return nil, errors.New("the engine does not say what its platform is")
	}
	architecture, variant, _ := strings.Cut(architecture, "/")
	var content, layer bytes.Buffer
	if err := tar.NewWriter(&content).Close(); err != nil {
		return nil, err
	}
	zip := gzip.NewWriter(&layer)
	zip.Write(content.Bytes()) // to memory
	if err := zip.Close(); err != nil {
		return nil, err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"os": system, "architecture": architecture, "variant": variant,
		"config": object{"Labels": object{"towline.trial": rand.Text()}},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest.FromBytes(content.Bytes()).String()}},
	})
	if err != nil {
		return nil, err
	}
	describe := func(media string, body []byte) object {
		return object{"mediaType": media, "digest": digest.FromBytes(body).String(), "size": len(body)}
	}
	manifest, err := json.Marshal(object{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": describe(typeConfig, config), "layers": []object{describe(typeLayer, layer.Bytes())},
	})
	if err != nil {
		return nil, err
	}
	t := &Trial{
		manifest: puller.RawManifest{Body: manifest, MediaType: typeManifest, Digest: digest.FromBytes(manifest).String()},
		blobs:    make(map[string][]byte),
	}
	for _, body := range [][]byte{config, layer.Bytes()} {
		t.blobs[digest.FromBytes(body).String()] = body
	}
	return t, nil
}

// Manifest returns the manifest, and false where the reference is not its digest.
func (t *Trial) Manifest(reference string) (puller.RawManifest, bool) {
	if reference != t.manifest.Digest {
		return puller.RawManifest{}, false
	}
	t.asked.Store(true)
	return t.manifest, true
}

// Blob returns the configuration or the layer, and false where the digest is of neither.
func (t *Trial) Blob(digest string) ([]byte, bool) {
	body, ok := t.blobs[digest]
	return body, ok
}

// tryAlias has the engine pull a trial's image under a temporary name.
func (w *Ways) tryAlias(ctx context.Context, engine puller.EngineInfo, address string) error {
	return w.tryPull(ctx, engine, address+"/")
}

// tryMirror has the engine pull a trial's image from a registry that does not exist.
func (w *Ways) tryMirror(ctx context.Context, engine puller.EngineInfo) error {
	return w.tryPull(ctx, engine, alias.NoRegistry+"/")
}

// tryPull has the engine pull a trial's image. Where somebody else took a part of it from
// the engine's store, as a prune does before an image has its name, it pulls another one:
// such an end says nothing about the way.
func (w *Ways) tryPull(ctx context.Context, engine puller.EngineInfo, prefix string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, trialLimit, errors.New("it took longer than "+trialLimit.String()))
	defer cancel()
	for range trialTries {
		err = w.tryOnce(ctx, engine, prefix, alias.NewName())
		if puller.KindOf(err) != puller.ErrTruncated || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (w *Ways) tryOnce(ctx context.Context, engine puller.EngineInfo, prefix, name string) error {
	t, err := newTrial(engine)
	if err != nil {
		return err
	}
	defer w.o.Serve(name, t)()
	reference := prefix + name + "@" + t.manifest.Digest
	file, err := w.o.Names.Add(reference)
	if err != nil {
		return err
	}
	defer w.o.Names.Remove(file, names.EngineRef(reference))
	err = w.o.Engine.Pull(ctx, puller.Pull{Image: reference}, func(pullstream.Message) {})
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err == nil && !t.asked.Load() {
		err = errors.New("its pull ended, but asked nothing here")
	}
	return err
}
