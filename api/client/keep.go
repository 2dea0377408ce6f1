package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Sets returns all sets, without their images, and the files that can't be used.
func (c *Client) Sets(ctx context.Context) ([]keep.Set, []keep.SetFault, error) {
	var answer struct {
		Sets   []keep.Set
		Faults []keep.SetFault
	}
	err := c.call(ctx, http.MethodGet, "/v1/sets", nil, nil, &answer)
	return answer.Sets, answer.Faults, err
}

// Set returns a set with its images.
func (c *Client) Set(ctx context.Context, name string) (keep.Set, error) {
	var s keep.Set
	return s, c.call(ctx, http.MethodGet, "/v1/sets/"+url.PathEscape(name), nil, nil, &s)
}

// PutSet makes or replaces a set. It does not send Skipped.
func (c *Client) PutSet(ctx context.Context, name string, r keep.SetRequest) (keep.Set, error) {
	var s keep.Set
	return s, c.callJSON(ctx, http.MethodPut, "/v1/sets/"+url.PathEscape(name), r, &s)
}

// DeleteSet forgets a set. Its images stay.
func (c *Client) DeleteSet(ctx context.Context, name string) (keep.Set, error) {
	var s keep.Set
	return s, c.call(ctx, http.MethodDelete, "/v1/sets/"+url.PathEscape(name), nil, nil, &s)
}

// RefreshSet returns the prewarm that refreshes a set, as it was accepted.
func (c *Client) RefreshSet(ctx context.Context, name string) (puller.Job, error) {
	var j puller.Job
	return j, c.call(ctx, http.MethodPost, "/v1/sets/"+url.PathEscape(name)+"/refresh", nil, nil, &j)
}

// Leases returns a page of leases, newest first, and the cursor of the next page, "" on the
// last.
func (c *Client) Leases(ctx context.Context, f keep.LeaseFilter) ([]keep.Lease, string, error) {
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
	err := c.call(ctx, http.MethodGet, "/v1/leases?"+q.Encode(), nil, nil, &page)
	return page.Leases, page.Next, err
}

// AddLease leases images.
func (c *Client) AddLease(ctx context.Context, r keep.LeaseRequest) (keep.Lease, error) {
	var l keep.Lease
	return l, c.callJSON(ctx, http.MethodPost, "/v1/leases", r, &l)
}

// RenewLease has a lease end after ttl, a Go duration, from now.
func (c *Client) RenewLease(ctx context.Context, id, ttl string) (keep.Lease, error) {
	var l keep.Lease
	return l, c.callJSON(ctx, http.MethodPatch, "/v1/leases/"+url.PathEscape(id), map[string]string{"ttl": ttl}, &l)
}

// EndLease ends a lease.
func (c *Client) EndLease(ctx context.Context, id string) (keep.Lease, error) {
	var l keep.Lease
	return l, c.call(ctx, http.MethodDelete, "/v1/leases/"+url.PathEscape(id), nil, nil, &l)
}

// callJSON makes a call with a JSON body.
func (c *Client) callJSON(ctx context.Context, method, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.call(ctx, method, path, http.Header{"Content-Type": {"application/json"}}, body, answer)
}
