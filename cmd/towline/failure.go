package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/towline/towline/puller"
)

// incomplete is a prewarm that did not bring every image.
type incomplete struct {
	images           int
	failed, canceled []puller.ImageState
}

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
	return e
}

func (e *incomplete) Error() string {
	var parts []string
	if n := len(e.failed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s failed", n, count(e.images, "image")))
	}
	switch n := len(e.canceled); {
	case n == 0:
	case len(parts) == 0:
		parts = append(parts, fmt.Sprintf("%d of %s canceled", n, count(e.images, "image")))
	default:
		parts = append(parts, fmt.Sprintf("%d canceled", n))
	}
	return strings.Join(parts, ", ")
}

// Unwrap returns what the exit code follows from: not the images that were
// canceled since another one had failed.
func (e *incomplete) Unwrap() error {
	images := e.failed
	if len(images) == 0 {
		images = e.canceled
	}
	all := make(failures, len(images))
	for i, s := range images {
		all[i] = outcome(puller.Job{Error: s.Error})
	}
	return all
}

// report names the images of a prewarm that failed, and why.
func report(w io.Writer, err error) {
	var e *incomplete
	if !errors.As(err, &e) {
		return
	}
	for _, s := range e.failed {
		fmt.Fprintf(w, "failed: %s\n    %s\n", printable(s.Image), printable(describeError(s.Image, s.Error)))
	}
	for _, s := range e.canceled {
		fmt.Fprintf(w, "canceled: %s\n", printable(s.Image))
	}
}

// describeError says what is wrong with an image that was named before.
func describeError(image string, e *puller.JobError) string {
	message := e.Message
	if tried, rest, ok := strings.Cut(message, image+": "); ok && !strings.Contains(tried, ":") {
		message = rest
	}
	s := fmt.Sprintf("%s: %s", e.Kind, message)
	switch {
	case e.Retryable && e.RetryAfterSeconds > 0:
		s += fmt.Sprintf(" (worth another try in %s)", time.Duration(e.RetryAfterSeconds*float64(time.Second)).Round(time.Second))
	case e.Retryable:
		s += " (worth another try)"
	}
	return s
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
