package docker

import (
	"context"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// isDigest reports whether a text is an image's ID.
func isDigest(id string) bool {
	_, err := digest.Parse(puller.ClipTo(id, maxDigest))
	return err == nil
}

// RemoveImage implements engines.Engine. Engines remove an image by its ID also where it has
// one name, so the names are looked up first. A name that is given in between is lost: no
// engine has a call without that gap.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	if isDigest(ref) {
		found, err := transport.Renegotiated(func() (image.InspectResponse, error) {
			_, found, err := e.images.lookUp(ctx, ref)
			return found, err
		})
		switch {
		case err != nil:
			return err
		case found.ID != ref:
			return &puller.Error{Op: classify.OpRemoveImage, Ref: ref, Kind: puller.ErrInternal, Err: errNoID(found.ID)}
		case len(fullNames(found.RepoTags))+len(fullNames(found.RepoDigests)) > 0:
			return &puller.Error{Op: classify.OpRemoveImage, Ref: ref, Kind: puller.ErrConflict, Err: errNamed}
		}
	} else if !isName(ref) {
		return &puller.Error{Op: classify.OpRemoveImage, Ref: puller.Clip(ref), Kind: puller.ErrInvalidRequest, Err: errNoName}
	}
	_, err := transport.Renegotiated(func() (struct{}, error) {
		sdk, err := e.conn.Client(ctx)
		if err == nil {
			_, err = sdk.ImageRemove(ctx, ref, image.RemoveOptions{}) // the parents stay
		}
		if err != nil && client.IsErrConnectionFailed(err) {
			err = &classify.UnreachableError{Err: err}
		}
		if err != nil {
			err = e.conn.Classified(ctx, classify.OpRemoveImage, ref, err)
		}
		return struct{}{}, err
	})
	return err
}

var (
	errNamed  = puller.Errorf(puller.ErrConflict, "the image has a name; remove it by that")
	errNoName = puller.Errorf(puller.ErrInvalidRequest, "it is neither NAME:TAG, NAME@DIGEST nor an image ID")
)

// isName reports whether a reference in full form has a tag or a digest.
func isName(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	return err == nil && named.String() == ref && !reference.IsNameOnly(named)
}
