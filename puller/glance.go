package puller

import (
	"context"
	"time"
)

// glanceTime is how long a job's acceptance waits for the engine to say whether
// the image is there. It mostly takes less than a millisecond.
const glanceTime = 20 * time.Millisecond

// glance asks the engine whether the image of a pull is there before the pull is
// written: one that ends with that is written once, as it ends, and not twice.
// An engine that takes its time is asked again when the job is accepted.
func (p *Puller) glance(j *job) {
	if j.batch != nil || j.run != nil || j.request.Policy.AsksRegistry() || p.waits(j) {
		return
	}
	p.mu.Lock()
	pulling := p.pulling(j)
	p.mu.Unlock()
	if pulling {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, glanceTime)
	defer cancel()
	image, err := p.inspect(ctx, j)
	if err != nil && KindOf(err) != ErrNotFound {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	j.wants = p.judge(j, image, err)
}
