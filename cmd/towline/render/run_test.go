package render_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/outputlog"
)

func TestRun(t *testing.T) {
	j := &puller.Job{Image: "one"}
	state := func(p puller.Phase) puller.Event {
		return puller.Event{Type: "state", State: puller.StateActive, Phase: p, Attempt: 1, Seq: 1}
	}
	log := func(s puller.Output, text string) puller.Event {
		return puller.Event{Type: "log", Stream: s, Text: &outputlog.Text{Text: text}, Seq: 2}
	}
	oom := puller.Event{Type: "result", Result: &puller.Job{Result: &puller.Result{OOMKilled: true}}}
	const oomNotice = "towline: the program ran out of memory and was killed; give it more with --memory\n"

	t.Run("lost output is told when quiet, too", func(t *testing.T) {
		var notices bytes.Buffer
		d := &render.Run{Stdout: io.Discard, Notices: &notices, Quiet: true, Pull: render.Silent{}}
		d.Show(j, state(puller.PhaseRunning))
		d.Show(j, puller.Event{Type: "notice", Message: "of no interest", Seq: 2})
		d.Show(j, puller.Event{Type: "notice", Message: "some of the output is not kept"})
		if want := "towline: some of the output is not kept\n"; notices.String() != want {
			t.Errorf("%q, want %q", notices.String(), want)
		}
	})
	t.Run("output comes after the bars are gone", func(t *testing.T) {
		var screen bytes.Buffer
		d := &render.Run{Stdout: &screen, Notices: &screen, Pull: render.NewSized(&screen, size(80, 24, nil))}
		d.Show(j, state(puller.PhaseResolving))
		if screen.Len() > 0 {
			t.Errorf("an image that is present shows %q", screen.String())
		}
		for _, p := range []puller.Phase{puller.PhasePulling, puller.PhaseVerifying, puller.PhaseCreating, puller.PhaseRunning} {
			d.Show(j, state(p))
		}
		d.Show(j, log(puller.Stdout, "hello"))
		d.Show(j, state(puller.PhaseRemoving))
		d.Close()
		if s := screen.String(); !strings.Contains(s, "one                 pulling\n") || !strings.HasSuffix(s, "\x1b[1A\r\x1b[Jhello") {
			t.Errorf("the screen gets %q", s)
		}
	})
	t.Run("output without an end hides no notice", func(t *testing.T) {
		var screen bytes.Buffer
		d := &render.Run{Stdout: render.NewSafeWriter(&screen), Stderr: render.NewSafeWriter(&screen), Notices: &screen, Pull: render.Silent{}}
		d.Show(j, state(puller.PhaseRunning))
		for _, s := range []puller.Output{puller.Stdout, puller.Stderr} {
			d.Show(j, log(s, "a\x1b]0;"))
		}
		d.Show(j, oom)
		if want := "aa" + oomNotice; screen.String() != want {
			t.Errorf("%q, want %q", screen.String(), want)
		}
	})
}
