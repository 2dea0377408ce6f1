package render

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
)

// anyLength is the columns of a log.
const anyLength = 1 << 30

// ready counts the images of a prewarm by how they ended, as "3 of 12 images ready,
// 1 failed".
func (d *rows) ready() string {
	ended := make(map[puller.State]int)
	for _, r := range d.all {
		if r.end != nil {
			ended[r.end.State]++
		}
	}
	s := fmt.Sprintf("%d of %s ready", ended[puller.StateSucceeded], Count(len(d.all), "image"))
	for _, state := range []puller.State{puller.StateFailed, puller.StateCanceled} {
		if n := ended[state]; n > 0 {
			s += fmt.Sprintf(", %d %s", n, state)
		}
	}
	return s
}

// prewarmLine is the line of the whole prewarm in at most some columns, as far as the
// bytes, the rate and the time that is left have room.
func (d *rows) prewarmLine(columns int) string {
	p := d.prewarm
	if p.end == nil {
		tail := ""
		if amounts := p.amounts(); len(amounts) > 0 {
			tail = ", " + strings.Join(amounts, ", ")
		}
		if columns < leastName+2+allColumns { // a narrow terminal
			tail = strings.TrimSuffix(tail, " left")
		}
		head := "prewarm: " + p.phaseName() + ", " + d.ready()
		if len(head)+len(tail) > columns {
			head = "prewarm: " + d.ready()
		}
		return cut(head, max(8, columns-len(tail))) + tail
	}
	s := fmt.Sprintf("prewarm: %s: %s", p.end.State, d.ready())
	if r := p.end.Result; r != nil {
		s += fmt.Sprintf(", downloaded %s in %.1fs", formatBytes(r.Downloaded), r.DurationSeconds)
	}
	return s
}
