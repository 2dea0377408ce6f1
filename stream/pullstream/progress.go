package pullstream

import (
	"strings"
	"time"
)

// Totals is the progress of one attempt, summed over its layers. Bytes are of
// the layers' compressed size. Nothing in it runs backwards within an attempt,
// but Rate and ETASeconds.
type Totals struct {
	// Downloaded and Extracted are in bytes. A layer that was there before
	// the pull adds to neither; nor does one that was whole before the engine
	// had told its size.
	Downloaded int64 `json:"downloaded"`
	Extracted  int64 `json:"extracted"`
	// Total is how many bytes the attempt downloads; 0 while the size of some
	// layer is unknown.
	Total int64 `json:"total,omitempty"`
	// Layers counts the layers named so far; LayersDone those with nothing
	// left to do, LayersExisting among them.
	Layers         int `json:"layers"`
	LayersDone     int `json:"layers_done"`
	LayersExisting int `json:"layers_existing"`
	// Rate is the download rate of the last seconds, in bytes per second; 0
	// where it is unknown.
	Rate int64 `json:"rate,omitempty"`
	// ETASeconds is how long the rest of the download takes at Rate; absent
	// where Total or Rate is unknown.
	ETASeconds *int64 `json:"eta_seconds,omitempty"`
}

// A Change is what one message did to a Progress.
type Change struct {
	// Layer is the layer's new state, nil where no layer changed.
	Layer *Layer
	// Notice is a warning of the engine, or that it tries a layer again; "" for
	// none.
	Notice string
	// Advanced reports that work got on: a layer is new, or its bytes or phase
	// moved. An engine that repeats itself is active, but does not advance;
	// neither does one that counts seconds, or sends other lines.
	Advanced bool
}

// Progress folds the messages of one attempt to pull one image, of either
// image store, into the state of its layers. The zero value is ready for use.
// It is for one goroutine.
type Progress struct {
	layers []*layer // in the order they were named
	byID   map[string]*layer
	rate   rate
	said   string // the last line that was about no layer
}

type layer struct {
	id         string
	phase      Phase
	size       int64 // 0: unknown
	downloaded int64
	extracted  int64
	counted    int64 // the last count, which starts again with the work
	retrying   bool
}

// Bounds of what is believed, so that no stream takes all memory, and no sum
// overflows. Engines allow for some hundred layers at most.
const (
	maxLayers  = 1000
	maxLayerID = 128     // bytes; engines send 12, or the 64 of a whole digest
	maxBytes   = 1 << 50 // of one layer: a PiB
	maxNotice  = 2 << 10 // bytes; a reader's record keeps notices
)

// Fold takes one message in, at the time it came. Messages that are not about
// progress (errors, the digest) change nothing.
func (p *Progress) Fold(m Message, now time.Time) Change {
	phase, isWork := phaseOf(m.Status)
	m.Detail.Current = min(max(m.Detail.Current, 0), maxBytes)
	m.Detail.Total = min(m.Detail.Total, maxBytes)
	if m.ID == "" || !isWork {
		return p.foldWords(m)
	}
	l, known := p.byID[m.ID]
	if !known {
		if len(p.layers) == maxLayers || len(m.ID) > maxLayerID {
			return Change{}
		}
		l = &layer{id: m.ID}
		if p.byID == nil {
			p.byID = make(map[string]*layer)
		}
		p.byID[m.ID] = l
		p.layers = append(p.layers, l)
	}
	var change Change
	change.Notice = l.noteRetry(m)
	rose := l.noteCount(phase, m.Detail)
	before := *l
	l.advance(phase, m.Detail)
	if *l != before || !known {
		state := l.state()
		change.Layer = &state
		p.rate.observe(p.downloaded(), now)
	}
	change.Advanced = rose || !known || l.phase != before.phase
	return change
}

// foldWords handles a line that is not about a layer's work.
func (p *Progress) foldWords(m Message) Change {
	_, failed := m.Failure()
	if failed || m.Status == "" {
		return Change{}
	}
	repeated := m.Status == p.said
	p.said = m.Status
	if m.ID != "" || repeated {
		return Change{}
	}
	for _, usual := range []string{"Pulling from ", "Digest: ", "Status: ", "Trying to pull "} {
		if strings.HasPrefix(m.Status, usual) {
			return Change{}
		}
	}
	if len(m.Status) > maxNotice {
		return Change{Notice: strings.ToValidUTF8(m.Status[:maxNotice], "") + "…"}
	}
	return Change{Notice: m.Status}
}

// noteRetry returns a notice for the first line of a countdown, and none for
// the ticks after it.
func (l *layer) noteRetry(m Message) string {
	after, counting := strings.CutPrefix(m.Status, "Retrying in ")
	first := counting && !l.retrying
	l.retrying = counting
	if !first {
		return ""
	}
	return "the engine tries layer " + l.id + " again in " + after
}

// noteCount reports whether the count of bytes of the layer's phase rose since
// the last line. A download that begins again from 0 gets on, though it has
// not yet come as far as the one before.
func (l *layer) noteCount(phase Phase, d Detail) (rose bool) {
	if d.Units != "" || phase != Downloading && phase != Extracting || phase < l.phase {
		return false
	}
	rose = d.Current > l.counted
	l.counted = d.Current
	return rose
}

// advance moves the layer on, never back: an engine that starts a layer again
// counts from 0, and lines of one layer may come in any order.
func (l *layer) advance(phase Phase, d Detail) {
	if l.phase.Done() {
		return
	}
	if phase == Existing && l.phase > Waiting {
		phase = Complete // worked on by this pull, so not there before it
	}
	l.phase = max(l.phase, phase)
	if bytes := d.Units == ""; bytes && (phase == Downloading || phase == Extracting) {
		l.size = max(l.size, d.Total)
		current := d.Current
		if l.size > 0 {
			current = min(current, l.size)
		}
		if phase == Downloading {
			l.downloaded = max(l.downloaded, current)
		} else {
			l.extracted = max(l.extracted, current)
		}
	}
	if l.size > 0 || l.phase >= Verifying {
		// A size is at least what came before the engine told it, if it did.
		l.size = max(l.size, l.downloaded, l.extracted)
	}
	if l.phase >= Verifying {
		l.downloaded = l.size
	}
	if l.phase == Complete {
		l.extracted = l.size
	}
}

func (l *layer) state() Layer {
	s := Layer{ID: l.id, Phase: l.phase, Current: l.downloaded, Total: l.size}
	if l.phase == Extracting {
		s.Current = l.extracted
	}
	return s
}

// Waiting reports whether there are layers left, and all of them wait for the
// engine to begin with them.
func (p *Progress) Waiting() bool {
	left := false
	for _, l := range p.layers {
		if l.phase.Done() {
			continue
		}
		if l.phase != Waiting {
			return false
		}
		left = true
	}
	return left
}

// Extracting reports whether a layer is extracted, or everything is downloaded
// and something left to do: the engine's work on what it has may be silent for
// long.
func (p *Progress) Extracting() bool {
	left, downloading := false, false
	for _, l := range p.layers {
		if l.phase == Extracting {
			return true
		}
		left = left || !l.phase.Done()
		downloading = downloading || l.phase < Downloaded
	}
	return left && !downloading
}

// Fetched reports whether the engine has all bytes of the layers that it has named so
// far, and has downloaded some of them itself.
func (p *Progress) Fetched() bool {
	downloaded := false
	for _, l := range p.layers {
		if l.phase < Downloaded {
			return false
		}
		downloaded = downloaded || l.phase != Existing
	}
	return downloaded
}

// Finish says that the pull is proven: layers that the engine never called
// complete (Podman does not) are. It returns those that changed.
func (p *Progress) Finish() []Layer {
	var changed []Layer
	for _, l := range p.layers {
		if l.phase.Done() {
			continue
		}
		l.advance(Complete, Detail{})
		changed = append(changed, l.state())
	}
	return changed
}

// Layers returns the state of every layer, in the order the engine named them.
func (p *Progress) Layers() []Layer {
	states := make([]Layer, len(p.layers))
	for i, l := range p.layers {
		states[i] = l.state()
	}
	return states
}

// Totals returns the sums as they stand at the time given.
func (p *Progress) Totals(now time.Time) Totals {
	var t Totals
	known := true
	for _, l := range p.layers {
		t.Layers++
		t.Downloaded += l.downloaded
		t.Extracted += l.extracted
		t.Total += l.size
		if l.phase.Done() {
			t.LayersDone++
		}
		if l.phase == Existing {
			t.LayersExisting++
		}
		if l.unsized() {
			known = false
		}
	}
	if !known {
		t.Total = 0
	}
	t.estimate(&p.rate, now)
	return t
}

// unsized reports whether the layer has a size that is not known yet.
func (l *layer) unsized() bool { return l.size == 0 && l.phase < Verifying }

// estimate fills in the rate and how long the rest takes.
func (t *Totals) estimate(r *rate, now time.Time) {
	if t.Total > 0 && t.Downloaded >= t.Total {
		return // nothing is left to download: no rate
	}
	t.Rate = r.perSecond(now)
	if t.Total > 0 && t.Rate > 0 {
		eta := (t.Total - t.Downloaded + t.Rate - 1) / t.Rate
		t.ETASeconds = &eta
	}
}

func (p *Progress) downloaded() int64 {
	var n int64
	for _, l := range p.layers {
		n += l.downloaded
	}
	return n
}
