package lab

import (
	"context"
	"fmt"
	"time"
)

// Poll calls ok at once and then every interval until it answers nil, and returns
// nil then. When ctx ends first, the error holds both ctx's error and the last
// answer of ok that was not cut short by that.
func Poll(ctx context.Context, interval time.Duration, ok func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last error
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}
