package fetch

import "time"

const (
	// probeFor is how long one connection is measured without others beside it, from its
	// first bytes on. maxProbe is how long others wait for that.
	probeFor, maxProbe = 30 * time.Millisecond, 500 * time.Millisecond
	// leastProbe is how many bytes a blob needs for it.
	leastProbe = 1 << 20
	// probeEvery is how long the result counts.
	probeEvery = 10 * time.Minute
)

// probe measures one connection to a registry that is used alone. Where it fills the line,
// more of them bring nothing.
type probe struct {
	on     bool
	task   *task // that is measured; nil for none yet
	window window
	opens  time.Time // from when on others may begin; the zero time before the first bytes
	rate   float64   // the result, in bytes a second; 0 for none
	at     time.Time
}

// renew begins a probe if the last one is too old. It returns the result that counts.
func (p *probe) renew(now time.Time) float64 {
	p.on, p.task = now.Sub(p.at) > probeEvery, nil
	if p.on {
		p.rate = 0
	}
	return p.rate
}

// begin makes the first task with enough bytes the one that is measured.
func (p *probe) begin(t *task) {
	if p.on && p.task == nil && t.blob.size >= leastProbe {
		p.task, p.window, p.opens = t, window{}, time.Time{}
	}
}

// holds reports whether the pieces of a blob wait for the end of the probe.
func (p *probe) holds(b *blob, now time.Time) bool {
	if p.task != nil && now.Sub(p.task.started) >= maxProbe {
		p.on, p.task = false, nil
	}
	return p.task != nil && b.size >= leastProbe && (p.opens.IsZero() || now.Before(p.opens))
}

// end takes out a task that has ended. If it was too short, the next one is measured.
func (p *probe) end(t *task, now time.Time) {
	if p.task != t {
		return
	}
	p.task = nil
	if took := now.Sub(p.window.begun); p.window.bytes >= leastProbe && took > 0 {
		p.finish(took, now)
	}
}

func (p *probe) finish(took time.Duration, now time.Time) {
	p.rate, p.at = float64(p.window.bytes)/took.Seconds(), now
	p.on, p.task = false, nil
}

// first begins the measurement, with the first bytes. Other connections may begin before
// its end: what they ask for takes a round trip to come. These bytes took three at most, of
// which two made the connection.
func (p *probe) first(now time.Time) {
	p.window.begun = now
	p.opens = now.Add(max(0, probeFor-now.Sub(p.task.started)/3))
}

// note takes in more bytes, and reports whether the probe is over.
func (p *probe) note(n int, now time.Time) bool {
	p.window.bytes += int64(n)
	took := now.Sub(p.window.begun)
	if took < probeFor {
		return false
	}
	p.finish(took, now)
	return true
}
