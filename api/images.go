package api

import (
	"net/http"

	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

var errNoKeeper = puller.Errorf(puller.ErrNotFound, "this daemon knows nothing of the images of its engine")

// listImages is GET /v1/images.
func (s *keeping) listImages(w http.ResponseWriter, r *http.Request) error {
	if s.images == nil {
		return errNoKeeper
	}
	filter, err := imageFilter(r)
	if err != nil {
		return err
	}
	images, next, err := s.images.Images(r.Context(), filter)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, imagePage{images, next})
}

// imagePage is an answer to GET /v1/images.
type imagePage struct {
	Images []keep.Image `json:"images"`
	Next   string       `json:"next,omitempty"`
}

// imageFilter reads the query of GET /v1/images.
func imageFilter(r *http.Request) (keep.ImageFilter, error) {
	q := r.URL.Query()
	f := keep.ImageFilter{
		Owner: keep.Owner(q.Get("owner")), Image: q.Get("image"), Set: q.Get("set"), Reason: keep.Reason(q.Get("reason")), Cursor: q.Get("cursor"),
	}
	if q.Get("collectable") != "" {
		collectable, err := input.IsTrue(r, "collectable")
		if err != nil {
			return f, err
		}
		f.Collectable = &collectable
	}
	limit, err := input.Limit(r)
	if err != nil {
		return f, err
	}
	f.Limit = limit
	return f, f.Check()
}

// listChanges is GET /v1/images/history.
func (s *keeping) listChanges(w http.ResponseWriter, r *http.Request) error {
	if s.history == nil {
		return errNoKeeper
	}
	q := r.URL.Query()
	f := keep.HistoryFilter{Image: q.Get("image"), Cursor: q.Get("cursor")}
	var err error
	if f.Limit, err = input.Limit(r); err != nil {
		return err
	}
	changes, next, err := s.history.Changes(f)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, changePage{changes, next})
}

// changePage is an answer to GET /v1/images/history.
type changePage struct {
	Events []puller.Event `json:"events"`
	Next   string         `json:"next,omitempty"`
}

// collect is POST /v1/collections.
func (s *keeping) collect(w http.ResponseWriter, r *http.Request) error {
	if s.images == nil {
		return errNoKeeper
	}
	if r.ContentLength != 0 {
		if err := input.Body(w, r, new(struct{})); err != nil {
			return err
		}
	}
	dryRun, err := input.IsTrue(r, "dry_run")
	if err != nil {
		return err
	}
	done, err := s.images.Collect(r.Context(), dryRun)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, done)
}
