package answers

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
)

// PlanText returns a plan as lines for people: one for each image, and one for all.
func PlanText(p puller.Plan) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	for i, image := range p.Images {
		if b.Len() > maxText {
			line("and %d more", len(p.Images)-i)
			break
		}
		text := string(image.Status)
		switch {
		case image.Weight != nil:
			text += ", to download " + size(image.Fetch) + " of " + size(image.Size)
		case image.Status != puller.StatusPresent && image.Error == nil:
			text += ", size unknown"
		}
		if image.Platform != "" {
			text += ", " + image.Platform
		}
		if e := image.Error; e != nil {
			text += fmt.Sprintf("; %s: %s", e.Kind, e.Message)
		}
		line("%s: %s", image.Image, text)
	}
	for _, s := range p.Skipped {
		if b.Len() > maxText {
			break
		}
		line("%s: skipped: %s", s.Service, s.Reason)
	}
	fetch := size(p.Fetch)
	switch {
	case p.Complete:
	case p.Fetch > 0:
		fetch = "at least " + fetch
	default:
		fetch = "unknown"
	}
	line("to download: %s", fetch)
	for _, note := range p.Notes {
		line("warning: %s", note)
	}
	return b.String()
}
