package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

func TestPlainTellsOneLinePerChange(t *testing.T) {
	for _, recording := range []string{"engine-20.10/fresh", "engine-next/fresh", "engine-20.10/up-to-date", "engine-20.10/shared-base"} {
		t.Run(recording, func(t *testing.T) {
			job, all := events(t, recording)
			var out strings.Builder
			d := newPlain(&out)
			for _, e := range all {
				d.show(&job, e)
			}
			d.end()
			checkGolden(t, "plain/"+recording, out.String())
			checkClean(t, out.String())
		})
	}
}

// nasty is text that moves the cursor, breaks lines and hides what follows.
const nasty = "x\x1b[2J\r\n\x07\u009b31m\u202etxt\u2028\x00\x7f"

// hostile are events whose texts come from someone who means ill.
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

func checkClean(t *testing.T, out string) {
	t.Helper()
	for _, r := range out {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is printed: %q", r, out)
			return
		}
	}
}

func TestPlainPrintsNoControlCharacters(t *testing.T) {
	job, all := hostile()
	var out strings.Builder
	d := newPlain(&out)
	for _, e := range all {
		d.show(&job, e)
	}
	checkClean(t, out.String())
	if lines := strings.Count(out.String(), "\n"); lines != 5 {
		t.Errorf("5 events are told in %d lines:\n%s", lines, out.String())
	}
	checkClean(t, printable(errors.New(nasty).Error()))
}

func TestPlainOfARealPull(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "--host", host)
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	checkClean(t, out)
	want := regexp.MustCompile(`^127\.0\.0\.1:5000/lab0:v1: (queued|resolving|pulling)\n(127\.0\.0\.1:5000/lab0:v1: .+\n)*` +
		`127\.0\.0\.1:5000/lab0:v1: pulled, sha256:[0-9a-f]{64}, 74\.3 MB in [0-9.]+s\n$`)
	if !want.MatchString(out) {
		t.Errorf("it is told as:\n%s", out)
	}
	for _, layer := range []string{"89092e44af27", "0d28499f843c", "5944d0948b3e", "80686707a030"} {
		if !strings.Contains(out, "layer "+layer+": complete\n") {
			t.Errorf("layer %s does not come to its end:\n%s", layer, out)
		}
	}
}

func TestSizesAreWrittenInDecimalUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_550_000: "1.6 MB", 2_000_000_000: "2.0 GB", 5_000_000_000_000: "5.0 TB", 5_000_000_000_000_000: "5000.0 TB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
