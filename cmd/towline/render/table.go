package render

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/towline/towline/puller"
)

// writeTable writes the images that have ended, in the order they were asked for.
func (d *rows) writeTable(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tDIGEST\tSOURCE\tBYTES\tTIME\tWAY")
	for _, r := range d.all {
		if r.end == nil {
			continue
		}
		digest, source, bytes, took, way := "-", describeEnd(*r.end), "-", "-", "-"
		if result := r.end.Result; result != nil && r.end.Error == nil {
			source = sourceName(result.Source)
			if result.Digest != "" {
				digest = result.Digest
			}
			if r.told { // what a prewarm tells of an image has less
				bytes, took = formatBytes(result.Downloaded), fmt.Sprintf("%.1fs", result.DurationSeconds)
			}
			if result.Source == puller.SourcePulled && result.Accelerated != nil {
				way = string(result.Accelerated.Way)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", SafeText(r.image), SafeText(digest), SafeText(source), bytes, took, SafeText(way))
	}
	w.Flush()
}
