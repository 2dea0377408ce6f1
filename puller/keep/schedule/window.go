package schedule

import (
	"strings"
	"time"

	"github.com/towline/towline/puller"
)

// window is a part of each day, in minutes from midnight on the clock on the wall. It may
// pass midnight. The zero value is the whole day.
type window struct{ from, to int }

const day = 24 * 60 // minutes

// parseWindow reads a window such as "22:00-06:00".
func parseWindow(text string) (window, error) {
	if text == "" {
		return window{}, nil
	}
	refuse := func(why string) (window, error) {
		return window{}, puller.Errorf(puller.ErrInvalidRequest, "window: %q %s; write the times of its begin and its end, such as 22:00-06:00", puller.Clip(text), why)
	}
	from, to, ok := strings.Cut(text, "-")
	begin, err := time.Parse("15:04", strings.TrimSpace(from))
	if !ok || err != nil {
		return refuse("is no window")
	}
	end, err := time.Parse("15:04", strings.TrimSpace(to))
	if err != nil {
		return refuse("is no window")
	}
	w := window{begin.Hour()*60 + begin.Minute(), end.Hour()*60 + end.Minute()}
	if w.from == w.to {
		return refuse("has no length; leave it out for the whole day")
	}
	return w, nil
}

// length returns how long the window is on a day on which clocks do not change.
func (w window) length() time.Duration {
	return time.Duration((w.to-w.from+day)%day) * time.Minute
}

// open reports whether a clock that reads t is in the window.
func (w window) open(t time.Time) bool {
	since := (t.Hour()*60 + t.Minute() - w.from + day) % day
	return w == window{} || since < (w.to-w.from+day)%day
}
