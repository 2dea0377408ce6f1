package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// checker checks what readers get. Most get the same bytes, so that a
// line is decoded once, and found again for all others: that costs less than
// decoding, and every byte of every line is looked at.
type checker struct {
	docker bool // lines are Docker's own
	known  map[string]*lineInfo
	layers map[string]int
	jobs   map[string]*jobRecord
}

// maxKnown bounds the lines that are kept to be found again.
const maxKnown = 50_000

// lineInfo is what a line says.
type lineInfo struct {
	seq   uint64
	job   *jobRecord
	at    time.Time // zero in Docker's lines
	layer int       // -1 for none
	place uint64    // of the layer: its phase, then how far that has come
	state bool
	// queued says that the job waits for its turn, last that this is the last
	// line, of a pull that succeeded.
	queued, last bool
}

// jobRecord is the numbered events of a job that any reader got, in order.
type jobRecord struct{ seqs []uint64 }

// reading is how far one reader has come.
type reading struct {
	job         *jobRecord
	first, last uint64 // numbers
	numbered    int
	places      []uint64 // by layer
	whole       bool     // it got the end
	lossy       bool     // its server drops events that it can't deliver
}

func newChecker(docker bool) *checker {
	return &checker{docker: docker, known: map[string]*lineInfo{}, layers: map[string]int{}, jobs: map[string]*jobRecord{}}
}

// parse returns what a line says.
func (w *checker) parse(line []byte) (*lineInfo, error) {
	if t := w.known[string(line)]; t != nil {
		return t, nil
	}
	decode := w.event
	if w.docker {
		decode = w.message
	}
	t, err := decode(line)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", line, err)
	}
	if len(w.known) == maxKnown {
		clear(w.known)
	}
	w.known[string(line)] = t
	return t, nil
}

func (w *checker) event(line []byte) (*lineInfo, error) {
	var e puller.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	t := &lineInfo{seq: e.Seq, at: e.Time, layer: -1, state: e.Type == "state", queued: e.State == puller.StateQueued}
	if e.Job == "" || e.Time.IsZero() {
		return nil, errors.New("no job, or no time")
	}
	if t.job = w.jobs[e.Job]; t.job == nil {
		t.job = &jobRecord{}
		w.jobs[e.Job] = t.job
	}
	if e.Seq != 0 {
		if i, found := slices.BinarySearch(t.job.seqs, e.Seq); !found {
			t.job.seqs = slices.Insert(t.job.seqs, i, e.Seq)
		}
	}
	switch e.Type {
	case "layer":
		if e.Layer == nil || e.Progress == nil || e.Seq != 0 {
			return nil, errors.New("a layer event without its layer or progress, or with a number")
		}
		t.layer, t.place = w.layer(e.Layer.ID), place(e.Layer.Phase, e.Layer.Current)
	case "result":
		if e.Result == nil || e.Result.ID != e.Job || e.Result.State != puller.StateSucceeded {
			return nil, errors.New("the job has not succeeded")
		}
		t.last = true
	case "state", "notice", "log":
		if e.Seq == 0 {
			return nil, errors.New("no number")
		}
	}
	return t, nil
}

// message is event for a line of an engine's pull.
func (w *checker) message(line []byte) (*lineInfo, error) {
	var m pullstream.Message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, err
	}
	if text, failed := m.Failure(); failed {
		return nil, errors.New(text)
	}
	t := &lineInfo{layer: -1, last: m.ID == "" && strings.HasPrefix(m.Status, "Status: ")}
	phase := slices.Index([]string{"Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Already exists"}, m.Status)
	if phase >= 0 {
		t.layer, t.place = w.layer(m.ID), place(pullstream.Phase(phase), m.Detail.Current)
	}
	return t, nil
}

func (w *checker) layer(id string) int {
	i, ok := w.layers[id]
	if !ok {
		i = len(w.layers)
		w.layers[id] = i
	}
	return i
}

// place grows as a layer gets on.
func place(p pullstream.Phase, current int64) uint64 { return uint64(p)<<56 | uint64(current) }

// add adds what a reader got, and returns what is wrong with that.
func (r *reading) add(t *lineInfo) error {
	if r.whole {
		return errors.New("something follows the end")
	}
	if t.job != nil {
		if r.job == nil {
			r.job = t.job
		}
		if r.job != t.job {
			return errors.New("an event of another job")
		}
	}
	if t.seq != 0 {
		if t.seq <= r.last {
			return fmt.Errorf("number %d after %d", t.seq, r.last)
		}
		if r.first == 0 {
			r.first = t.seq
		}
		r.last = t.seq
		r.numbered++
	}
	if t.layer >= 0 {
		for len(r.places) <= t.layer {
			r.places = append(r.places, 0)
		}
		if t.place < r.places[t.layer] {
			return fmt.Errorf("a layer goes back, from %x to %x", r.places[t.layer], t.place)
		}
		r.places[t.layer] = t.place
	}
	r.whole = t.last
	return nil
}

// check returns what is wrong once the reader has all.
func (r *reading) check(w *checker) error {
	if !r.whole {
		return errors.New("the end is missing")
	}
	if w.docker || r.lossy {
		return nil
	}
	from, _ := slices.BinarySearch(r.job.seqs, r.first)
	if n := len(r.job.seqs) - from; n != r.numbered {
		return fmt.Errorf("%d numbered events, where others of the job have %d", r.numbered, n)
	}
	for _, p := range r.places {
		if !pullstream.Phase(p >> 56).Done() {
			return errors.New("a layer does not become complete")
		}
	}
	if len(r.places) < len(w.layers) {
		return fmt.Errorf("%d layers, where others have %d", len(r.places), len(w.layers))
	}
	return nil
}
