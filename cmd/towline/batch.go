package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/towline/towline/puller"
)

// plainBatch prints what happens to a prewarm as plain does to pulls: its
// states, the end of each image, and the totals now and then.
type plainBatch struct {
	out   io.Writer
	tally *tally
	told  time.Time // when the totals were
}

func (d *plainBatch) show(j *puller.Job, e puller.Event) {
	say := func(format string, args ...any) {
		fmt.Fprintln(d.out, printable(fmt.Sprintf(format, args...)))
	}
	if d.tally == nil {
		d.tally, d.told = newTally(j), e.Time
		say("prewarm: job %s, %s", j.ID, count(d.tally.images, "image"))
	}
	ended := d.tally.take(e)
	switch {
	case e.Type == "state" && !e.State.Ended():
		say("prewarm: %s", describeState(e))
	case ended:
		say("%s", e.Message)
	case e.Type == "notice":
		say("prewarm: %s", e.Message)
	case e.Result != nil:
		say("prewarm: %s", d.tally.describeEnd(e.Result))
	case e.Time.Sub(d.told) >= tellEvery:
		d.told = e.Time
		say("prewarm: %s, %s", d.tally, d.tally.bytes())
	}
}

func (d *plainBatch) end() {}

// batchBar shows a prewarm on a terminal: a line for each image that has ended,
// and below them how far all are, drawn over in place.
type batchBar struct {
	out   io.Writer
	size  func() (width, height int, err error) // of the terminal, as it is now
	tally *tally
	state string
	ended bool
	drawn int // lines that the next drawing goes over
	at    time.Time
}

func newBatchBar(out *os.File) *batchBar {
	return &batchBar{out: out, size: func() (int, int, error) { return term.GetSize(int(out.Fd())) }}
}

func (d *batchBar) show(j *puller.Job, e puller.Event) {
	if d.tally == nil {
		d.tally = newTally(j)
	}
	line := ""
	ended := d.tally.take(e)
	switch {
	case e.Type == "state" && !e.State.Ended():
		d.state = describeState(e)
	case ended:
		line = e.Message
	case e.Type == "notice":
		line = "prewarm: " + e.Message
	case e.Result != nil:
		d.ended = true
		line = "prewarm: " + d.tally.describeEnd(e.Result)
	}
	if e.Type != "layer" || time.Since(d.at) >= drawEvery {
		d.draw(line)
	}
}

func (d *batchBar) end() { d.draw("") }

// draw writes the picture over the last one, after a line that stays, if there
// is one.
func (d *batchBar) draw(line string) {
	width, _, err := d.size()
	if err != nil || width < 20 {
		width = 80
	}
	var s strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", d.drawn)
	}
	s.WriteString("\r\x1b[J")
	if line != "" {
		s.WriteString(printable(line) + "\n")
	}
	lines := d.lines(width - 1)
	for _, l := range lines {
		s.WriteString(cut(l, width-1) + "\n")
	}
	io.WriteString(d.out, s.String())
	d.drawn, d.at = len(lines), time.Now()
}

func (d *batchBar) lines(width int) []string {
	if d.ended || d.tally == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("prewarm: %s, %s", printable(d.state), d.tally)}
	p := d.tally.progress
	if p.Layers == 0 {
		return lines
	}
	text := d.tally.bytes()
	room := min(width-len(text)-3, 40) // what is left beside the brackets
	if room < 5 || p.Total == 0 {
		return append(lines, text)
	}
	done := int(min(int64(room), int64(room)*p.Downloaded/p.Total))
	return append(lines, "["+strings.Repeat("#", done)+strings.Repeat(".", room-done)+"] "+text)
}
