package puller

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

// Check returns what is wrong with a filter, as ErrInvalidRequest, and fills in what
// is left out.
func (f *Filter) Check() error {
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
