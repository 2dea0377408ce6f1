package keep

import "github.com/towline/towline/puller"

// HistoryFilter chooses changes of images. Its zero value is all that are kept.
type HistoryFilter struct {
	Image  string // in any form
	Limit  int    // how many to return, 0 for 100, at most 1000
	Cursor string // the next of the page before
}

// Check returns what is wrong with a filter, as ErrInvalidRequest, and fills in what is left
// out.
func (f *HistoryFilter) Check() error {
	page := puller.Filter{Image: f.Image, Limit: f.Limit}
	if err := page.Check(); err != nil {
		return err
	}
	f.Image, f.Limit = page.Image, page.Limit
	return nil
}

// A History knows what has become of images. Its methods may be called from anywhere.
type History interface {
	// Changes returns a page of events, newest first, and the cursor of the next page, ""
	// on the last. Each has an Image. The error is ErrInvalidRequest.
	Changes(f HistoryFilter) (page []puller.Event, next string, err error)
}
