package enginetest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// event is what happened to a container, as GET /events tells it.
type event struct {
	seq    int
	at     time.Time
	action string
	id     string
}

// eventLog is what the engine has seen since it was started.
type eventLog struct {
	mu   sync.Mutex
	seen []event
	seq  int
	deaf bool // there is no engine to see anything
}

// mostEvents is how many events the engine keeps.
const mostEvents = 256

func (l *eventLog) note(action, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return
	}
	l.seq++
	l.seen = append(l.seen, event{l.seq, time.Now(), action, id})
	l.seen = l.seen[max(0, len(l.seen)-mostEvents):]
}

// lose forgets all, unless it is kept elsewhere, and sees nothing more.
func (l *eventLog) lose(kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !kept {
		l.seen, l.deaf = nil, true
	}
}

func (l *eventLog) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = false
}

// after returns those between two moments and after a number.
func (l *eventLog) after(seq int, since, until time.Time) (found []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.seen {
		if v.seq > seq && !v.at.Before(since) && !v.at.After(until) {
			found = append(found, v)
		}
	}
	return found
}

// Busy makes the engine see so many events of other containers.
func (e *Engine) AddEvents(n int) {
	for range n {
		e.events.note("exec_die", strings.Repeat("f", 64))
	}
}

// Shutdown stops the engine as SIGTERM stops dockerd: it takes no connections any
// more, ends its containers, and then cuts what is left. Where it lingers, calls on
// the connections that there are answered until then, as dockerd does; else they
// are cut first. Revive starts it.
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

// listEvents answers with those between since and until, also with those to come.
func (e *Engine) listEvents(w http.ResponseWriter, r *http.Request) {
	if e.looked(w, r, "events", "") {
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
