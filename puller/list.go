package puller

import (
	"slices"
	"strings"
)

// Filter chooses jobs. Its zero value is all of them.
type Filter struct {
	State State
	Kind  string
	Image string // in full form
	// Limit is how many to return, 0 for 100, at most 1000.
	Limit int
	// Cursor is the Next of the page before.
	Cursor string
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Jobs returns a page of jobs, newest first, and the cursor of the next page,
// "" on the last. The error is InvalidRequest and names the field.
func (p *Puller) Jobs(f Filter) (page []Job, next string, err error) {
	switch {
	case f.Limit < 0 || f.Limit > maxLimit:
		return nil, "", Errorf(InvalidRequest, "limit: %d is not between 1 and %d", f.Limit, maxLimit)
	case f.Limit == 0:
		f.Limit = defaultLimit
	}
	switch f.State {
	case "", Queued, Active, Succeeded, Failed, StateCanceled:
	default:
		return nil, "", Errorf(InvalidRequest, "state: %q is not known; use queued, active, succeeded, failed or canceled", clip(string(f.State)))
	}
	switch f.Kind {
	case "", "pull":
	default:
		return nil, "", Errorf(InvalidRequest, "kind: %q is not known; use pull", clip(f.Kind))
	}
	if f.Image != "" {
		named, err := ParseReference(f.Image)
		if err != nil {
			return nil, "", err
		}
		f.Image = named.String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	end := len(p.order)
	if f.Cursor != "" {
		// A job that has been forgotten still marks its place.
		end, _ = slices.BinarySearchFunc(p.order, f.Cursor, func(j *job, id string) int {
			return strings.Compare(j.view.ID, id)
		})
	}
	page = []Job{}
	for _, j := range slices.Backward(p.order[:end]) {
		v := &j.view
		if f.State != "" && v.State != f.State || f.Kind != "" && v.Kind != f.Kind || f.Image != "" && v.Image != f.Image {
			continue
		}
		if len(page) == f.Limit {
			return page, page[len(page)-1].ID, nil
		}
		page = append(page, j.snapshot())
	}
	return page, "", nil
}
