package enginetest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// event is a container's event in GET /events.
type event struct {
	seq    int
	at     time.Time
	action string
	id     string
}

// eventLog has the events since the engine's start.
type eventLog struct {
	mu     sync.Mutex
	events []event
	seq    int
	off    bool // the engine is down
}

// mostEvents is how many events the engine keeps.
const mostEvents = 256

func (l *eventLog) add(action, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return
	}
	l.seq++
	l.events = append(l.events, event{l.seq, time.Now(), action, id})
	l.events = l.events[max(0, len(l.events)-mostEvents):]
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

// after returns the events between two times and after a number.
func (l *eventLog) after(seq int, since, until time.Time) (found []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.events {
		if v.seq > seq && !v.at.Before(since) && !v.at.After(until) {
			found = append(found, v)
		}
	}
	return found
}

// AddEvents adds n events of another container.
func (e *Engine) AddEvents(n int) {
	for range n {
		e.events.add("exec_die", strings.Repeat("f", 64))
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
	since, until := moment(r.URL.Query().Get("since")), moment(r.URL.Query().Get("until"))
	for seq := 0; ; {
		for _, v := range e.events.after(seq, since, until) {
			json.NewEncoder(w).Encode(map[string]any{
				"Type": "container", "Action": v.action, "Actor": map[string]any{"ID": v.id}, "time": v.at.Unix(), "timeNano": v.at.UnixNano(),
			})
			seq = v.seq
		}
		w.(http.Flusher).Flush()
		if !time.Now().Before(until) {
			return
		}
		select {
		case <-time.After(min(100*time.Millisecond, time.Until(until))):
		case <-r.Context().Done():
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
