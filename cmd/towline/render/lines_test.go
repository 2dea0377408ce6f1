package render_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

func TestLines(t *testing.T) {
	for _, recording := range []string{"engine-20.10/fresh", "engine-next/fresh", "engine-20.10/up-to-date", "engine-20.10/shared-base"} {
		t.Run(recording, func(t *testing.T) {
			out := logged(recorded(t, recording))
			checkGolden(t, "lines/"+recording, out)
			checkSafe(t, out)
		})
	}
	t.Run("canceled", func(t *testing.T) {
		ended := puller.Job{Image: "one", State: puller.StateCanceled, Error: &puller.JobError{Kind: puller.ErrCanceled, Message: "x"}}
		if got, want := logged(ended, []puller.Event{{Type: "result", Result: &ended}}), "one: canceled\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("no control characters", func(t *testing.T) {
		out := logged(hostile())
		checkSafe(t, out)
		if n := strings.Count(out, "\n"); n != 4 {
			t.Errorf("7 events become %d lines:\n%s", n, out)
		}
	})
}

// hostile returns events whose texts have control characters.
func hostile() (puller.Job, []puller.Event) {
	job := puller.Job{ID: "01J", Image: "alpine" + nasty}
	failed := job
	failed.State, failed.Error = puller.StateFailed, &puller.JobError{Kind: "not_found" + nasty, Message: nasty}
	done := job
	done.Result = &puller.Result{Digest: nasty, Source: puller.SourceUpToDate}
	totals := &pullstream.Totals{Downloaded: 1, Total: 2}
	return job, []puller.Event{
		{Type: "state", State: "act" + nasty, Phase: "pul" + nasty},
		{Type: "notice", Message: "notice " + nasty},
		{Type: "layer", Layer: &pullstream.Layer{ID: "aa" + nasty, Phase: pullstream.Downloading, Total: 2}, Progress: totals},
		{Type: "heartbeat"},
		{Type: "a type of a newer daemon"},
		{Type: "result", Result: &failed},
		{Type: "result", Result: &done},
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_550_000: "1.6 MB", 2_000_000_000: "2.0 GB", 5_000_000_000_000: "5.0 TB", 5_000_000_000_000_000: "5000.0 TB"} {
		if got := render.FormatBytes(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
