package enginetest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// event is an event of a container or an image in GET /events.
type event struct {
	seq    int
	at     time.Time
	kind   string // container or image
	action string
	id     string
	image  string // its name
}

// eventLog has the events since the engine's start.
type eventLog struct {
	mu     sync.Mutex
	events []event
	seq    int
	off    bool          // the engine is down
	held   bool          // they are told later
	added  chan struct{} // closed and set to nil with the next event
}

// mostEvents is how many events the engine keeps.
const mostEvents = 256

func (l *eventLog) add(kind, action, id, image string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return
	}
	l.seq++
	l.events = append(l.events, event{l.seq, time.Now(), kind, action, id, image})
	l.events = l.events[max(0, len(l.events)-mostEvents):]
	if l.added != nil {
		close(l.added)
		l.added = nil
	}
}

// stop ends the recording. Unless the events are kept elsewhere, it deletes them.
func (l *eventLog) stop(kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !kept {
		l.events, l.off = nil, true
	}
}

func (l *eventLog) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
}

// after returns the events between two times and after a number, and a channel that is
// closed with the next event.
func (l *eventLog) after(seq int, since, until time.Time) (found []event, added <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.added == nil {
		l.added = make(chan struct{})
	}
	for _, v := range l.events {
		if !l.held && v.seq > seq && !v.at.Before(since) && !v.at.After(until) {
			found = append(found, v)
		}
	}
	return found, l.added
}

// HoldEvents has the engine tell of what happens only once release is called.
func (e *Engine) HoldEvents() (release func()) {
	hold := func(held bool) {
		e.events.mu.Lock()
		defer e.events.mu.Unlock()
		if e.events.held = held; e.events.added != nil {
			close(e.events.added)
			e.events.added = nil
		}
	}
	hold(true)
	return func() { hold(false) }
}

// AddEvents adds n events of another container.
func (e *Engine) AddEvents(n int) {
	for range n {
		e.events.add("container", "exec_die", strings.Repeat("f", 64), "")
	}
}

// Shutdown stops the engine as SIGTERM stops dockerd: it accepts no more connections, ends
// its containers, and cuts the connections after linger. Without linger it cuts them first.
// Revive starts it again.
func (e *Engine) Shutdown(linger time.Duration) {
	e.mu.Lock()
	e.closed = true
	all := e.containers
	e.mu.Unlock()
	if linger == 0 {
		e.Kill()
	}
	for _, c := range all {
		e.stop(c, 10*time.Second)
	}
	<-time.After(linger)
	e.Kill()
}

// listEvents answers with the events between since and until, future ones included.
func (e *Engine) listEvents(w http.ResponseWriter, r *http.Request) {
	if e.answeredByHook(w, r, "events", "") {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.(http.Flusher).Flush()
	since, until, limited := moment(r.URL.Query().Get("since")), moment(r.URL.Query().Get("until")), r.URL.Query().Get("until") != ""
	if r.URL.Query().Get("since") == "" {
		since = time.Now()
	}
	if !limited {
		until = time.Now().Add(100 * 365 * 24 * time.Hour)
	}
	for seq := 0; ; {
		found, added := e.events.after(seq, since, until)
		for _, v := range found {
			name := "image"
			if v.kind == "image" {
				name = "name"
			}
			json.NewEncoder(w).Encode(map[string]any{
				"Type": v.kind, "Action": v.action, "Actor": map[string]any{"ID": v.id, "Attributes": map[string]string{name: v.image}}, "time": v.at.Unix(), "timeNano": v.at.UnixNano(),
			})
			seq = v.seq
		}
		w.(http.Flusher).Flush()
		if !time.Now().Before(until) {
			return
		}
		expired := time.NewTimer(time.Until(until))
		select {
		case <-expired.C:
		case <-added:
		case <-r.Context().Done():
		}
		expired.Stop()
		if r.Context().Err() != nil {
			return
		}
	}
}

func moment(s string) time.Time {
	seconds, nanos, _ := strings.Cut(s, ".")
	n, _ := strconv.ParseInt(seconds, 10, 64)
	m, _ := strconv.ParseInt(nanos, 10, 64)
	return time.Unix(n, m)
}
