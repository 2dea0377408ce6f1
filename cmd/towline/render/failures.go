package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/towline/towline/puller"
)

// Failures lists the images of a prewarm that failed, with the reason of each, and
// those that were canceled.
func Failures(out io.Writer, failed, canceled []puller.ImageState) {
	p := PaletteOf(out)
	for _, s := range failed {
		fmt.Fprintf(out, "%s %s\n    %s\n", p.Failed("failed:"), SafeText(s.Image), SafeText(describeError(s.Image, s.Error)))
	}
	for _, s := range canceled {
		fmt.Fprintf(out, "%s %s\n", p.Notice("canceled:"), SafeText(s.Image))
	}
}

// describeError says why an image failed, without the image: the line above has
// it.
func describeError(image string, e *puller.JobError) string {
	message := e.Message
	if before, rest, ok := strings.Cut(message, image+": "); ok && !strings.Contains(before, ":") {
		message = rest
	}
	s := fmt.Sprintf("%s: %s", e.Kind, message)
	switch {
	case e.Retryable && e.RetryAfterSeconds > 0:
		s += fmt.Sprintf(" (try again in %s)", time.Duration(e.RetryAfterSeconds*float64(time.Second)).Round(time.Second))
	case e.Retryable:
		s += " (try again)"
	}
	return s
}
