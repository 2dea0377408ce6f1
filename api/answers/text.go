package answers

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/towline/towline/puller"
)

// PlainText is the media type of text.
const PlainText = "text/plain; charset=utf-8"

// WantsText reports whether the caller accepts plain text by name, and no other form of
// an answer by name.
func WantsText(r *http.Request) bool {
	text := false
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil || params["q"] == "0" {
				continue
			}
			switch media {
			case "text/plain":
				text = true
			case "application/json", "application/problem+json", "application/x-ndjson", "text/event-stream":
				return false
			}
		}
	}
	return text
}

// maxText is how many bytes the text of a job has before it leaves out images.
const maxText = 64 << 10

// Text returns a job as lines for people: one for each image, and one for the job.
func Text(j puller.Job) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	for i, image := range j.Images {
		if b.Len() > maxText {
			line("and %d more", len(j.Images)-i)
			break
		}
		switch {
		case image.Error != nil:
			line("%s: %s: %s", image.Image, image.Error.Kind, image.Error.Message)
		case image.Reason != "":
			line("%s: %s: %s", cmp.Or(image.Service, image.Image), image.State, image.Reason)
		default:
			line("%s: %s", image.Image, cmp.Or(sourceName(image.Source), string(image.State)))
		}
	}
	if j.Image != "" {
		line("%s: %s", j.Image, outcomeOf(j))
	}
	line("job %s: %s", j.ID, cmp.Or(spent(j), string(j.State)))
	return b.String()
}

func sourceName(s puller.Source) string { return strings.ReplaceAll(string(s), "_", " ") }

// outcomeOf says what became of the image of a job.
func outcomeOf(j puller.Job) string {
	switch r := j.Result; {
	case j.Error != nil:
		return fmt.Sprintf("%s: %s", j.Error.Kind, j.Error.Message)
	case r == nil:
		return string(cmp.Or(puller.State(j.Phase), j.State))
	case r.ExitCode != nil && r.OOMKilled:
		return fmt.Sprintf("the program exited with %d, for lack of memory", *r.ExitCode)
	case r.ExitCode != nil:
		return fmt.Sprintf("the program exited with %d", *r.ExitCode)
	default:
		size := r.Size
		if r.Source == puller.SourcePulled {
			size = r.Downloaded
		}
		return fmt.Sprintf("%s, %s, %s", sourceName(r.Source), cmp.Or(r.Digest, r.ImageID), units.HumanSize(float64(size)))
	}
}

// spent says how long a job took that has ended, "" for another one.
func spent(j puller.Job) string {
	if j.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s in %s", j.State, j.FinishedAt.Sub(j.CreatedAt).Round(time.Millisecond))
}

// text returns a problem as lines for people.
func (p Problem) text() string {
	text := string(p.Kind) + ": " + p.Detail + "\n"
	switch {
	case p.lines != "":
		text = p.lines + text
	case p.ended != nil:
		text = Text(*p.ended)
	case p.Job != "":
		text += "job " + p.Job + "\n"
	}
	switch {
	case p.retryAfter > 0:
		text += "try again after " + p.retryAfter.Round(time.Second/10).String() + "\n"
	case p.Retryable:
		text += "the same request may succeed later\n"
	}
	return text
}
