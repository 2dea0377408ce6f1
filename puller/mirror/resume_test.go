package mirror_test

import (
	"context"
	"sync"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror"
)

// TestResume is a pull that ends in its middle, and comes again: in the same daemon, and
// in the next one.
func TestResume(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart bool
	}{{"cancel", false}, {"restart", true}} {
		t.Run(c.name, func(t *testing.T) {
			const size = 8 * mib
			r := newRegistry()
			e := newEngine(r)
			r.push("registry.test/app", "1", random(1, size))
			dir := t.TempDir()
			two := func(o *mirror.Options) { o.Connections = 2 }
			b := start(t, r, e, dir, two)
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			asked := 0
			r.blob = func(ctx context.Context, _ string, from, to int64) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if to-from < mib { // the configuration
					return nil, nil
				}
				if asked++; asked <= 4 {
					return nil, nil
				}
				cancel()
				<-ctx.Done()
				return nil, puller.Errorf(puller.ErrCanceled, "canceled")
			}
			if got := b.pull(ctx, puller.Pull{Image: "registry.test/app:1"}); got.err == nil {
				t.Fatal("it was not canceled")
			}
			r.blob = nil
			if c.restart {
				b.stop()
				b = start(t, r, e, dir, two)
			}
			got := b.pull(t.Context(), puller.Pull{Image: "registry.test/app:1"})
			if got.err != nil || got.how.Way != puller.WayAlias || sum(r.engine) != 0 {
				t.Errorf("it ended with %v: %+v", got.err, got.how)
			}
			// What connections have in memory is lost, 256 KiB each. After a restart the
			// registry shows a part of what is there.
			if again := sum(r.sent) - size; again > 2*(256<<10)+sample+1000 {
				t.Errorf("%d bytes were sent twice", again)
			}
			if got.how.FromCache < 2*mib {
				t.Errorf("%+v", got.how)
			}
		})
	}
}
