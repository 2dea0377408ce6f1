package render

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/towline/towline/puller"
)

// Jobs writes jobs as a table. Their age is as of now.
func Jobs(out io.Writer, jobs []puller.Job, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tKIND\tSTATE\tAGE\tIMAGE\tRESULT")
	for _, j := range jobs {
		state, image := string(j.State), j.Image
		if j.Phase != "" {
			state = string(j.Phase)
		}
		if j.Kind == puller.JobPrewarm {
			image = Count(len(j.Children), "image")
		}
		age := now.Sub(j.CreatedAt).Round(time.Second)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", SafeText(j.ID), SafeText(string(j.Kind)), SafeText(state), age, SafeText(image), SafeText(jobResult(j)))
	}
	return w.Flush()
}

func jobResult(j puller.Job) string {
	switch {
	case j.Error != nil:
		return string(j.Error.Kind)
	case j.Result != nil && j.Kind == puller.JobPrewarm:
		return "downloaded " + formatBytes(j.Result.Downloaded)
	case j.Result != nil && j.Kind == puller.JobRun:
		return describeEnd(j)
	case j.Result != nil:
		return string(j.Result.Source)
	case j.Progress != nil:
		return describeDownload(*j.Progress)
	}
	return ""
}
