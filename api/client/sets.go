package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Sets are the calls about the sets of the daemon's host.
type Sets struct{ c *Client }

// Sets returns the calls about sets.
func (c *Client) Sets() Sets { return Sets{c} }

// List returns all sets, without their images, and the files that can't be used.
func (s Sets) List(ctx context.Context) ([]keep.Set, []keep.SetFault, error) {
	var answer struct {
		Sets   []keep.Set
		Faults []keep.SetFault
	}
	err := s.c.call(ctx, http.MethodGet, "/v1/sets", nil, nil, &answer)
	return answer.Sets, answer.Faults, err
}

// Get returns a set with its images.
func (s Sets) Get(ctx context.Context, name string) (keep.Set, error) {
	var set keep.Set
	return set, s.c.call(ctx, http.MethodGet, "/v1/sets/"+url.PathEscape(name), nil, nil, &set)
}

// Put makes or replaces a set.
func (s Sets) Put(ctx context.Context, name string, r SetRequest) (keep.Set, error) {
	var set keep.Set
	return set, s.c.callJSON(ctx, http.MethodPut, "/v1/sets/"+url.PathEscape(name), r, &set)
}

// Delete forgets a set. Its images stay.
func (s Sets) Delete(ctx context.Context, name string) (keep.Set, error) {
	var set keep.Set
	return set, s.c.call(ctx, http.MethodDelete, "/v1/sets/"+url.PathEscape(name), nil, nil, &set)
}

// Refresh returns the prewarm that refreshes a set, as it was accepted.
func (s Sets) Refresh(ctx context.Context, name string) (puller.Job, error) {
	var j puller.Job
	return j, s.c.call(ctx, http.MethodPost, "/v1/sets/"+url.PathEscape(name)+"/refresh", nil, nil, &j)
}
