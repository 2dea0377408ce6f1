package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/towline/towline/puller/keep"
)

// Leases are the calls about what keeps images from collection for a while.
type Leases struct{ c *Client }

// Leases returns the calls about leases.
func (c *Client) Leases() Leases { return Leases{c} }

// List returns a page of leases, newest first, and the cursor of the next page, "" on the
// last.
func (l Leases) List(ctx context.Context, f keep.LeaseFilter) ([]keep.Lease, string, error) {
	q := url.Values{}
	for name, v := range map[string]string{"image": f.Image, "job": f.Job, "cursor": f.Cursor} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var page struct {
		Leases []keep.Lease
		Next   string
	}
	err := l.c.call(ctx, http.MethodGet, "/v1/leases?"+q.Encode(), nil, nil, &page)
	return page.Leases, page.Next, err
}

// Add leases images.
func (l Leases) Add(ctx context.Context, r LeaseRequest) (keep.Lease, error) {
	var lease keep.Lease
	return lease, l.c.callJSON(ctx, http.MethodPost, "/v1/leases", r, &lease)
}

// Renew has a lease end after ttl, a Go duration, from now.
func (l Leases) Renew(ctx context.Context, id, ttl string) (keep.Lease, error) {
	var lease keep.Lease
	return lease, l.c.callJSON(ctx, http.MethodPatch, "/v1/leases/"+url.PathEscape(id), map[string]string{"ttl": ttl}, &lease)
}

// End ends a lease.
func (l Leases) End(ctx context.Context, id string) (keep.Lease, error) {
	var lease keep.Lease
	return lease, l.c.call(ctx, http.MethodDelete, "/v1/leases/"+url.PathEscape(id), nil, nil, &lease)
}
