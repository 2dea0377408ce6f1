package faults_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

// observations keep all that the clients of one daemon are told, over its restarts,
// and holds each answer against those before.
type observations struct {
	*testing.T
	mu         sync.Mutex
	jobs       map[string]*account
	order      []string          // their IDs, as they became known
	open       int               // jobs that nobody was told the end of
	numbered   map[uint64]string // events
	whole      map[string][][]uint64
	asks       map[string]string // by idempotency key, the job's ID
	unanswered int               // submissions without a key that got no answer
	kills      int
	answers    int // that told of jobs
	events     int // that were told, with their repetitions
}

// account is what is known of one job.
type account struct {
	private, failFast bool
	canceled          bool   // somebody has asked for it
	since             int    // kills before it was accepted
	ended             string // the job as it was told first after its end
	listed            string // the same, in a list
	at                time.Time
	until             int // kills before that
}

func newObservations(t *testing.T) *observations {
	return &observations{
		T: t, jobs: map[string]*account{}, numbered: map[uint64]string{},
		whole: map[string][][]uint64{}, asks: map[string]string{},
	}
}

// accepted notes a job that a client knows the ID of, from whatever answer.
func (w *observations) accepted(id string, a ask) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.key != "" {
		if known := w.asks[a.key]; known != "" && known != id {
			w.Errorf("the key %s has given the jobs %s and %s", a.key, known, id)
		}
		w.asks[a.key] = id
	}
	w.note(id, account{private: a.private, failFast: a.failFast, since: a.since})
}

func (w *observations) note(id string, k account) *account {
	if w.jobs[id] == nil {
		w.jobs[id] = &k
		w.order = append(w.order, id)
		w.open++
	}
	return w.jobs[id]
}

// told takes a job from an answer to what was asked at a time. The job is known,
// or a child of one, or nobody's.
func (w *observations) told(raw []byte, by string, asked time.Time) (v puller.Job) {
	raw = bytes.TrimSpace(raw)
	if err := json.Unmarshal(raw, &v); err != nil {
		w.Errorf("%s: %v: %s", by, err, raw)
		return v
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers++
	k := w.jobs[v.ID]
	if k == nil {
		parent := w.jobs[v.Parent]
		if parent == nil {
			return v // of a submission that got no answer
		}
		k = w.note(v.ID, account{private: parent.private, failFast: parent.failFast, since: parent.since})
	}
	for _, id := range v.Children {
		w.note(id, account{private: k.private, failFast: k.failFast, since: k.since})
	}
	known, text := &k.ended, string(raw)
	if by == "a list" {
		known = &k.listed
	}
	switch {
	case !v.State.Ended():
		if k.ended != "" && asked.After(k.at) {
			w.Errorf("%s tells of a job that had ended\nnow    %s\nbefore %s", by, text, k.ended)
		}
	case *known == "":
		*known = text
		if known == &k.ended {
			k.at, k.until = time.Now(), w.kills
			w.open--
		}
	case *known != text:
		w.Errorf("%s tells of a job that has ended otherwise than before\nnow    %s\nbefore %s", by, text, *known)
	}
	return v
}

// event takes one event that a reader of a job was told.
func (w *observations) event(id string, raw []byte) (e puller.Event) {
	if err := json.Unmarshal(raw, &e); err != nil || e.Job != id {
		w.Errorf("a reader of %s is told %s: %v", id, raw, err)
	}
	if e.Seq > 0 {
		w.mu.Lock()
		w.events++
		if before := w.numbered[e.Seq]; before != "" && before != string(raw) {
			w.Errorf("two events have the number %d\n%s\n%s", e.Seq, before, raw)
		}
		w.numbered[e.Seq] = string(raw)
		w.mu.Unlock()
	}
	if e.Type == "result" {
		var whole struct{ Result json.RawMessage }
		json.Unmarshal(raw, &whole)
		if v := w.told(whole.Result, "a result event", time.Now()); v.ID != id || !v.State.Ended() {
			w.Errorf("the result of %s is %s", id, raw)
		}
	}
	return e
}

// read notes the numbers that a reader was told from a job's beginning to its end.
func (w *observations) read(id string, numbers []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole[id] = append(w.whole[id], numbers)
}

func (w *observations) unended() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// pick returns the ID of some job that has ended, or has not, "" for none.
func (w *observations) pick(n int, ended bool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ended {
		for i := range w.order {
			if id := w.order[(n+i)%len(w.order)]; w.jobs[id].ended != "" {
				return id
			}
		}
		return ""
	}
	var open []string
	for i := len(w.order) - 1; len(open) < w.open; i-- {
		if id := w.order[i]; w.jobs[id].ended == "" {
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return ""
	}
	return open[n%len(open)]
}

// cancel notes that a job is to be canceled, with its children.
func (w *observations) cancel(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs[id].canceled = true
}

// judge decides whether the jobs ended as they should, when all have.
func (w *observations) judge(images map[string]pushed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	jobs := map[string]puller.Job{}
	for id, k := range w.jobs {
		var v puller.Job
		if err := json.Unmarshal([]byte(k.ended), &v); err != nil {
			w.Errorf("job %s has not ended: %q", id, k.ended)
			continue
		}
		jobs[id] = v
		v.Images = nil
		if text, _ := json.Marshal(v); string(text) != k.listed {
			w.Errorf("a list tells otherwise of a job than others\n%s\n%s", k.listed, text)
		}
	}
	for id, v := range jobs {
		if v.Kind == puller.JobPrewarm {
			w.family(v, jobs)
		} else if !w.pullIsRight(w.jobs[id], v, images) {
			w.Errorf("a job has ended as it should not have (%+v): %s", *w.jobs[id], w.jobs[id].ended)
		}
	}
}

func (w *observations) pullIsRight(k *account, v puller.Job, images map[string]pushed) bool {
	image, there := images[v.Image]
	parent := w.jobs[v.Parent]
	switch {
	case v.State == puller.StateSucceeded:
		// When one tag of an image is removed while another is pulled, dockerd may
		// keep the image under that tag without its digest.
		undigested := v.Result.Source == puller.SourcePresent && v.Result.Digest == ""
		return there && v.Result.ImageID == image.id && (v.Result.Digest == image.digest || undigested)
	case v.State == puller.StateCanceled:
		return k.canceled || parent != nil && (parent.canceled || parent.failFast)
	case v.Error.Kind == puller.ErrDenied:
		return k.private && k.until > k.since && strings.Contains(v.Error.Message, "towline was restarted before")
	case v.Error.Kind == puller.ErrNotFound:
		return !there || v.Policy == puller.PolicyNever
	}
	return false
}

// family checks that what a prewarm says agrees with its children.
func (w *observations) family(v puller.Job, jobs map[string]puller.Job) {
	want := puller.StateSucceeded
	for i, id := range v.Children {
		child := jobs[id]
		told := v.Images[i]
		if child.Parent != v.ID || told.Job != id || told.Image != child.Image || told.State != child.State ||
			child.Result != nil && told.Source != child.Result.Source || (told.Error == nil) != (child.Error == nil) ||
			told.Error != nil && *told.Error != *child.Error {
			w.Errorf("prewarm %s tells of a child %+v, which is %+v", v.ID, told, child)
		}
		if child.State == puller.StateFailed || child.State == puller.StateCanceled && want == puller.StateSucceeded {
			want = child.State
		}
	}
	// Of one that a caller canceled, some images may have failed before that.
	canceled := v.State == puller.StateCanceled && w.jobs[v.ID] != nil && w.jobs[v.ID].canceled
	if len(v.Images) != len(v.Children) || v.State != want && !canceled {
		w.Errorf("prewarm %s is %s, and its children %s: %+v", v.ID, v.State, want, v.Images)
	}
}
