package answers

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
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
			line("%s: %s", image.Image, reason(image.Image, *image.Error))
		case image.Reason != "":
			line("%s: %s: %s", cmp.Or(image.Service, image.Image), image.State, image.Reason)
		default:
			line("%s: %s", image.Image, cmp.Or(sourceName(image.Source), string(image.State)))
		}
	}
	if j.Image != "" {
		line("%s: %s", j.Image, outcomeOf(j))
	}
	for _, text := range remedies(j) {
		line("%s", text)
	}
	line("job %s: %s", j.ID, cmp.Or(spent(j), string(j.State)))
	return b.String()
}

// reason says why an image is not there, without its name.
func reason(image string, e puller.JobError) string {
	return fmt.Sprintf("%s: %s", e.Kind, strings.TrimPrefix(e.Message, "pull "+image+": "))
}

// remedies says what mends the failures of a job, once for each kind.
func remedies(j puller.Job) (lines []string) {
	failed := slices.Clone(j.Images)
	if j.Image != "" {
		failed = []puller.ImageState{{Image: j.Image, Error: j.Error}}
	}
	var kinds []puller.ErrorKind
	var registries []string
	for _, image := range failed {
		if image.Error == nil {
			continue
		}
		if !slices.Contains(kinds, image.Error.Kind) {
			kinds = append(kinds, image.Error.Kind)
		}
		if registry := names.RegistryOf(image.Image); image.Error.Kind == puller.ErrDenied && !slices.Contains(registries, registry) {
			registries = append(registries, registry)
		}
	}
	for _, kind := range kinds {
		switch kind {
		case puller.ErrCanceled:
		case puller.ErrDenied:
			lines = append(lines, fmt.Sprintf("denied: check the name, or give a login for %s in one of three ways: registries.credentials in the daemon's towline.yaml; "+
				"X-Registry-Auth with the call, or X-Registry-Config for several registries; or towline pull, which sends your docker login", puller.Listed(registries)))
		default:
			lines = append(lines, fmt.Sprintf("%s: \"towline explain %[1]s\" says what mends it", kind))
		}
	}
	return lines
}

// size writes a number of bytes: 12.3 MB.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	return units.CustomSize("%.1f %s", float64(n), 1000, []string{"B", "kB", "MB", "GB", "TB"})
}

func sourceName(s puller.Source) string { return strings.ReplaceAll(string(s), "_", " ") }

// outcomeOf says what became of the image of a job.
func outcomeOf(j puller.Job) string {
	switch r := j.Result; {
	case j.Error != nil:
		return reason(j.Image, *j.Error)
	case r == nil:
		return string(cmp.Or(puller.State(j.Phase), j.State))
	case r.ExitCode != nil && r.OOMKilled:
		return fmt.Sprintf("the program exited with %d, for lack of memory", *r.ExitCode)
	case r.ExitCode != nil:
		return fmt.Sprintf("the program exited with %d", *r.ExitCode)
	default:
		n := r.Size
		if r.Source == puller.SourcePulled {
			n = r.Downloaded
		}
		return fmt.Sprintf("%s, %s, %s", sourceName(r.Source), cmp.Or(r.Digest, r.ImageID), size(n))
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
