package puller

import "slices"

// Filter chooses jobs. Its zero value is all of them.
type Filter struct {
	State State
	Kind  JobKind
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
// "" on the last. Their Images are left out. The error is ErrInvalidRequest and names the field.
func (p *Puller) Jobs(f Filter) (page []Job, next string, err error) {
	if err := f.check(); err != nil {
		return nil, "", err
	}
	// First those in memory: what leaves it meanwhile is then in both, and not
	// in neither.
	live := p.liveJobs(f)
	ended, err := p.store.Ended(Filter{State: f.State, Kind: f.Kind, Image: f.Image, Cursor: f.Cursor, Limit: f.Limit + 1})
	if err != nil {
		return nil, "", err
	}
	page = merge(live, ended)
	if len(page) > f.Limit {
		page = page[:f.Limit]
		next = page[f.Limit-1].ID
	}
	for i := range page {
		page[i] = p.outputs.kept(page[i])
		page[i].Images = nil // a thousand jobs may have a thousand each
	}
	return page, next, nil
}

// check returns what is wrong with a filter, as ErrInvalidRequest, and fills in
// what is left out.
func (f *Filter) check() error {
	switch {
	case f.Limit < 0 || f.Limit > maxLimit:
		return Errorf(ErrInvalidRequest, "limit: %d is not between 1 and %d", f.Limit, maxLimit)
	case f.Limit == 0:
		f.Limit = defaultLimit
	}
	switch f.State {
	case "", StateQueued, StateActive, StateSucceeded, StateFailed, StateCanceled:
	default:
		return Errorf(ErrInvalidRequest, "state: %q is not known; use queued, active, succeeded, failed or canceled", Clip(string(f.State)))
	}
	switch f.Kind {
	case "", JobPull, JobRun, JobPrewarm:
	default:
		return Errorf(ErrInvalidRequest, "kind: %q is not known; use pull, run or prewarm", Clip(string(f.Kind)))
	}
	if f.Image != "" {
		full, _, err := ParseImage(f.Image)
		if err != nil {
			return err
		}
		f.Image = full
	}
	return nil
}

// liveJobs returns one more than a page of the jobs in memory, newest first.
func (p *Puller) liveJobs(f Filter) []Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := len(p.order)
	if f.Cursor != "" {
		// A job that is not there any more still marks its place.
		end, _ = slices.BinarySearchFunc(p.order, f.Cursor, byID)
	}
	var jobs []Job
	for _, j := range slices.Backward(p.order[:end]) {
		v := &j.view
		if f.State != "" && v.State != f.State || f.Kind != "" && v.Kind != f.Kind || f.Image != "" && v.Image != f.Image {
			continue
		}
		if jobs = append(jobs, j.snapshot()); len(jobs) > f.Limit {
			break
		}
	}
	return jobs
}

// merge returns the jobs of two lists, newest first. Of a job that is in both,
// it is what the second says.
func merge(live, ended []Job) []Job {
	all := make([]Job, 0, len(live)+len(ended))
	for _, v := range live {
		for len(ended) > 0 && ended[0].ID > v.ID {
			all, ended = append(all, ended[0]), ended[1:]
		}
		if len(ended) == 0 || ended[0].ID != v.ID {
			all = append(all, v)
		}
	}
	return append(all, ended...)
}
