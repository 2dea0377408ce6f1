package render_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

var update = flag.Bool("update", false, "write the golden files")

// show feeds a display with all events of a job.
func show(d render.Display, j puller.Job, events []puller.Event) {
	for _, e := range events {
		d.Show(&j, e)
	}
	d.Close()
}

// logged returns what a log gets.
func logged(j puller.Job, events []puller.Event) string {
	var out strings.Builder
	show(render.New(&out), j, events)
	return out.String()
}

// drawn returns what a terminal gets, with 30 ms between any two events, and with
// ESC and CR as words.
func drawn(t *testing.T, size func() (int, int, error), j puller.Job, events []puller.Event) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := render.NewSized(&out, size)
		for _, e := range events {
			d.Show(&j, e)
			<-time.After(29 * time.Millisecond) // never at the same time as a picture that is due
		}
		d.Close()
	})
	return strings.NewReplacer("\x1b", "<ESC>", "\r", "<CR>").Replace(out.String())
}

// frame begins every picture on a terminal but the first.
var frame = regexp.MustCompile(`<ESC>\[\d+A<CR><ESC>\[J`)

// checkFrames fails where a terminal gets control characters that are not those of
// a picture.
func checkFrames(t *testing.T, out string) {
	t.Helper()
	rest := frame.ReplaceAllString(out, "")
	checkSafe(t, rest)
	if strings.Contains(rest, "<ESC>") || strings.Contains(rest, "<CR>") {
		t.Errorf("an escape is printed: %s", out)
	}
}

// sized returns the display of pulls on a terminal, and what it writes.
func sized(columns, rows int, images ...string) (render.Display, *strings.Builder) {
	var out strings.Builder
	return render.NewSized(&out, size(columns, rows, nil), images...), &out
}

func size(columns, rows int, err error) func() (int, int, error) {
	return func() (int, int, error) { return columns, rows, err }
}

// checkGolden compares a text with testdata/NAME.txt.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name)+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// nasty is text that moves the cursor, breaks lines and hides what follows.
const nasty = "x\x1b[2J\r\n\x07\u009b31m\u202etxt\u2028\x00\x7f"

// checkSafe fails where a text has more than lines of printable characters.
func checkSafe(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is printed: %q", r, text)
			return
		}
	}
}

// recorded returns the events of a pull that was recorded, with a second between
// any two messages of the engine.
func recorded(t *testing.T, recording string) (puller.Job, []puller.Event) {
	t.Helper()
	job := puller.Job{ID: "01J", Kind: puller.JobPull, State: puller.StateQueued, Image: "127.0.0.1:5000/lab0:v1"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var all []puller.Event
	add := func(e puller.Event) {
		e.Time, e.Job = now, job.ID
		all = append(all, e)
	}
	add(puller.Event{Type: "state", State: puller.StateQueued})
	add(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseResolving, Attempt: 1})
	add(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhasePulling, Attempt: 1})
	var progress pullstream.Progress
	digest := ""
	layer := func(l pullstream.Layer) {
		totals := progress.Totals(now)
		add(puller.Event{Type: "layer", Layer: &l, Progress: &totals})
	}
	decoder := pullstream.NewDecoder(bytes.NewReader(transcripts.Load(recording).Body), 0)
	for {
		m, err := decoder.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		if d := m.Digest(); d != "" {
			digest = d
		}
		change := progress.Fold(m, now)
		if change.Layer != nil {
			layer(*change.Layer)
		}
		if change.Notice != "" {
			add(puller.Event{Type: "notice", Message: change.Notice})
		}
	}
	add(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseVerifying, Attempt: 1})
	for _, l := range progress.Finish() {
		layer(l)
	}
	add(puller.Event{Type: "state", State: puller.StateSucceeded, Attempt: 1})
	ended := job
	ended.State = puller.StateSucceeded
	ended.Result = &puller.Result{
		ImageID: "sha256:1d", Digest: digest, Size: 1, Source: puller.SourcePulled,
		Downloaded: progress.Totals(now).Downloaded, DurationSeconds: 12.34,
	}
	add(puller.Event{Type: "result", Result: &ended})
	return job, all
}
