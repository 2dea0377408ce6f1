package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Images returns a page of the engine's images, and the cursor of the next page, "" on the
// last.
func (c *Client) Images(ctx context.Context, f keep.ImageFilter) (page []keep.Image, next string, err error) {
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
	err = c.call(ctx, http.MethodGet, "/v1/images?"+q.Encode(), nil, nil, &answer)
	return answer.Images, answer.Next, err
}

// Changes returns a page of what has become of images, newest first, and the cursor of the
// next page, "" on the last. Each event has an Image.
func (c *Client) Changes(ctx context.Context, f keep.HistoryFilter) (page []puller.Event, next string, err error) {
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
	err = c.call(ctx, http.MethodGet, "/v1/images/history?"+q.Encode(), nil, nil, &answer)
	return answer.Events, answer.Next, err
}

// Collect has images removed that nothing needs, or returns what would be removed.
func (c *Client) Collect(ctx context.Context, dryRun bool) (keep.Collection, error) {
	var done keep.Collection
	err := c.call(ctx, http.MethodPost, "/v1/collections?dry_run="+strconv.FormatBool(dryRun), nil, nil, &done)
	return done, err
}
