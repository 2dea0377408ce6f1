package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Images are the calls about the images of the daemon's engine.
type Images struct{ c *Client }

// Images returns the calls about images.
func (c *Client) Images() Images { return Images{c} }

// List returns a page of the engine's images, and the cursor of the next page, "" on the
// last.
func (i Images) List(ctx context.Context, f keep.ImageFilter) (page []keep.Image, next string, err error) {
	q := url.Values{}
	for name, value := range map[string]string{"owner": string(f.Owner), "image": f.Image, "set": f.Set, "reason": string(f.Reason), "cursor": f.Cursor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Collectable != nil {
		q.Set("collectable", strconv.FormatBool(*f.Collectable))
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var answer struct {
		Images []keep.Image
		Next   string
	}
	err = i.c.call(ctx, http.MethodGet, "/v1/images?"+q.Encode(), nil, nil, &answer)
	return answer.Images, answer.Next, err
}

// History returns a page of what has become of images, newest first, and the cursor of the
// next page, "" on the last. Each event has an Image.
func (i Images) History(ctx context.Context, f keep.HistoryFilter) (page []puller.Event, next string, err error) {
	q := url.Values{}
	for name, value := range map[string]string{"image": f.Image, "cursor": f.Cursor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var answer struct {
		Events []puller.Event
		Next   string
	}
	err = i.c.call(ctx, http.MethodGet, "/v1/images/history?"+q.Encode(), nil, nil, &answer)
	return answer.Events, answer.Next, err
}

// Collect has images removed that nothing needs, or returns what would be removed.
func (i Images) Collect(ctx context.Context, dryRun bool) (keep.Collection, error) {
	var done keep.Collection
	err := i.c.call(ctx, http.MethodPost, "/v1/collections?dry_run="+strconv.FormatBool(dryRun), nil, nil, &done)
	return done, err
}
