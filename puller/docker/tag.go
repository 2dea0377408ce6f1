package docker

import (
	"context"

	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// Tag gives an image, NAME@DIGEST or an ID, a name, NAME:TAG, both in full form. An image that
// has the name loses it. The error is ErrNotFound where the engine has no such image.
func (e *Engine) Tag(ctx context.Context, image, name string) error {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	if !isName(name) {
		return &puller.Error{Op: classify.OpTag, Ref: puller.Clip(name), Kind: puller.ErrInvalidRequest, Err: errNoName}
	}
	_, err := transport.Renegotiated(func() (struct{}, error) {
		sdk, err := e.conn.Client(ctx)
		if err == nil {
			err = sdk.ImageTag(ctx, image, name)
		}
		if err != nil && client.IsErrConnectionFailed(err) {
			err = &classify.UnreachableError{Err: err}
		}
		if err != nil {
			err = e.conn.Classified(ctx, classify.OpTag, image, err)
		}
		return struct{}{}, err
	})
	return err
}
