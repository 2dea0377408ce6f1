package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// intent is an image that is about to be removed, as it is kept.
type intent struct {
	Change puller.ImageChange `json:"change"`
	// After is the number of the last event before. Where a later one tells of the removal, the
	// process ended before it could forget the intent.
	After uint64 `json:"after,omitempty"`
}

// loadIntents reads which images an earlier process was about to remove.
func (h *History) loadIntents() error {
	values, err := h.o.Records.Load(intentKind)
	if err != nil {
		return fmt.Errorf("load the removals of images: %w", err)
	}
	for id, value := range values {
		var i intent
		if err := json.Unmarshal(value, &i); err != nil || i.Change.ID != id {
			h.o.Log.WithError(err).WithField("image", puller.Clip(id)).Warn("the removal of an image that was begun can't be read")
			h.Drop(id)
			continue
		}
		told := slices.ContainsFunc(h.kept, func(e puller.Event) bool {
			return e.Seq > i.After && e.Image.ID == id && e.Image.Action == puller.ImageRemoved
		})
		if told {
			h.Drop(id)
			continue
		}
		h.intents[id] = i.Change
	}
	return nil
}

// Intend keeps that an image is about to be removed: where the process is killed before Add,
// the next one finds it in Intended. It is on disk by then; where that can't be, it is logged.
func (h *History) Intend(c puller.ImageChange) {
	h.mu.Lock()
	i := intent{c, h.dropped}
	if n := len(h.kept); n > 0 {
		i.After = h.kept[n-1].Seq
	}
	h.intents[c.ID] = c
	h.mu.Unlock()
	value, err := json.Marshal(i)
	if err == nil {
		err = h.o.Records.Save(intentKind, map[string][]byte{c.ID: value})
	}
	if err != nil {
		h.o.Log.WithError(err).WithField("image", c.ID).Warn("that an image is about to be removed could not be kept; if this process is killed meanwhile, nobody is told of the removal")
	}
}

// Intended returns the images of which it was not known yet whether they were removed.
func (h *History) Intended() []puller.ImageChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.intents), func(a, b puller.ImageChange) int { return strings.Compare(a.ID, b.ID) })
}

// Drop forgets that an image was to be removed, by its ID.
func (h *History) Drop(id string) {
	h.mu.Lock()
	delete(h.intents, id)
	h.mu.Unlock()
	if err := h.o.Records.Delete(intentKind, []string{id}); err != nil {
		h.o.Log.WithError(err).WithField("image", puller.Clip(id)).Warn("that an image was to be removed could not be forgotten; the next start looks for it")
	}
}
