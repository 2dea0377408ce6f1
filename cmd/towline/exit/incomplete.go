package exit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// Incomplete is the error of a prewarm that did not pull every image.
type Incomplete struct {
	Images           int // all of them
	Failed, Canceled []puller.ImageState
}

// newIncomplete returns nil where no image failed or was canceled.
func newIncomplete(images []puller.ImageState) *Incomplete {
	e := &Incomplete{}
	for _, s := range images {
		if s.Service == "" {
			e.Images++
		}
		switch {
		case s.Error == nil:
		case s.Error.Kind == puller.ErrCanceled:
			e.Canceled = append(e.Canceled, s)
		default:
			e.Failed = append(e.Failed, s)
		}
	}
	if len(e.Failed)+len(e.Canceled) == 0 {
		return nil
	}
	return e
}

func (e *Incomplete) Error() string {
	of := "of " + render.Count(e.Images, "image")
	var parts []string
	if n := len(e.Failed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s failed", n, of))
	}
	switch n := len(e.Canceled); {
	case n > 0 && len(parts) > 0:
		parts = append(parts, fmt.Sprintf("%d canceled", n))
	case n > 0:
		parts = append(parts, fmt.Sprintf("%d %s canceled", n, of))
	}
	return strings.Join(parts, ", ")
}

// Unwrap returns the errors that decide the exit code. Images that were canceled
// because another one failed are not among them.
func (e *Incomplete) Unwrap() error {
	images := e.Failed
	if len(images) == 0 {
		images = e.Canceled
	}
	all := make(Failures, len(images))
	for i, s := range images {
		all[i] = OfJob(puller.Job{Image: s.Image, Error: s.Error})
	}
	return all
}

// planError is a plan with images that would fail.
type planError struct{ *Incomplete }

func (p planError) Error() string {
	return fmt.Sprintf("%d of %s would fail", len(p.Failed), render.Count(p.Images, "image"))
}

func (p planError) Unwrap() error { return p.Incomplete }

// OfPlan returns the error of a plan of so many images, nil if none would fail.
func OfPlan(images int, failed []puller.ImageState) error {
	if len(failed) == 0 {
		return nil
	}
	return planError{&Incomplete{Images: images, Failed: failed}}
}

// PrintFailures lists the images of a prewarm that failed, if err is that of a prewarm or a plan.
func PrintFailures(out io.Writer, err error) {
	var e *Incomplete
	if errors.As(err, &e) {
		render.Failures(out, e.Failed, e.Canceled)
	}
}
