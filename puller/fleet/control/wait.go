package control

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
)

// Wait implements fleet.Service.
func (c *Controller) Wait(ctx context.Context, name string, generation uint64) (fleet.Set, error) {
	for {
		c.mu.Lock()
		changed, closed := c.known.Notify, c.closed
		c.mu.Unlock()
		set, err := c.Set(name)
		if err != nil {
			return set, err
		}
		if set.Generation != generation {
			return set, puller.Errorf(puller.ErrConflict, "the set %s has generation %d by now; generation %d is not rolled out any more", name, set.Generation, generation)
		}
		if over, err := known.Outcome(set); over {
			return set, err
		}
		if closed {
			return set, puller.Overloaded("the daemon ends")
		}
		select {
		case <-changed:
			select { // what comes together is looked at together
			case <-time.After(together):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return set, ctx.Err()
		}
	}
}
