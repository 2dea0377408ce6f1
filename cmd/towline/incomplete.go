package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// incomplete is the error of a prewarm that did not pull every image.
type incomplete struct {
	images           int
	failed, canceled []puller.ImageState
}

// newIncomplete returns nil where no image failed or was canceled.
func newIncomplete(images []puller.ImageState) *incomplete {
	e := &incomplete{}
	for _, s := range images {
		if s.Service == "" {
			e.images++
		}
		switch {
		case s.Error == nil:
		case s.Error.Kind == puller.ErrCanceled:
			e.canceled = append(e.canceled, s)
		default:
			e.failed = append(e.failed, s)
		}
	}
	if len(e.failed)+len(e.canceled) == 0 {
		return nil
	}
	return e
}

func (e *incomplete) Error() string {
	of := "of " + render.Count(e.images, "image")
	var parts []string
	if n := len(e.failed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s failed", n, of))
	}
	switch n := len(e.canceled); {
	case n > 0 && len(parts) > 0:
		parts = append(parts, fmt.Sprintf("%d canceled", n))
	case n > 0:
		parts = append(parts, fmt.Sprintf("%d %s canceled", n, of))
	}
	return strings.Join(parts, ", ")
}

// Unwrap returns the errors that decide the exit code. Images that were canceled
// because another one failed are not among them.
func (e *incomplete) Unwrap() error {
	images := e.failed
	if len(images) == 0 {
		images = e.canceled
	}
	all := make(failures, len(images))
	for i, s := range images {
		all[i] = jobError(puller.Job{Image: s.Image, Error: s.Error})
	}
	return all
}

// printFailures lists the images of a prewarm that failed, if err is an incomplete.
func printFailures(out io.Writer, err error) {
	var e *incomplete
	if errors.As(err, &e) {
		render.Failures(out, e.failed, e.canceled)
	}
}
