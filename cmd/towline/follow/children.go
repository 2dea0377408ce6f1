package follow

import (
	"context"
	"sync"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

const (
	// maxFollowed is how many images of a prewarm are followed at a time.
	maxFollowed = 100
	// childrenLimit is how long the ends of images are waited for after the end of
	// their prewarm.
	childrenLimit = 10 * time.Second
)

// Children shows the images of a prewarm beside the prewarm's own events, which do not
// have one image's progress, digest and size. Faults are not shown: the prewarm goes on
// without them.
type Children struct {
	Client   *client.Client
	Display  render.Display
	Progress bool // shows their progress; else only their ends are asked for

	mu     sync.Mutex // guards display and ended
	ended  map[string]bool
	work   sync.WaitGroup
	cancel context.CancelFunc // nil before the first event
}

// Show returns a function that shows the events of the prewarm. It shows the results of
// the images before that of the prewarm.
func (w *Children) Show(ctx context.Context) func(*puller.Job, puller.Event) {
	w.ended = make(map[string]bool)
	return func(j *puller.Job, e puller.Event) {
		var following context.Context
		first := w.cancel == nil
		if first {
			following, w.cancel = context.WithCancel(ctx)
		}
		if e.Result != nil {
			w.finish(ctx, j)
		}
		w.mu.Lock()
		w.Display.Show(j, e)
		w.mu.Unlock()
		if first && w.Progress && e.Result == nil {
			w.begin(following, j)
		}
	}
}

// begin follows the images in their order.
func (w *Children) begin(ctx context.Context, j *puller.Job) {
	slots := make(chan struct{}, maxFollowed)
	w.work.Go(func() {
		for _, s := range j.Images {
			if s.Job == "" {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			child := &puller.Job{ID: s.Job, Image: s.Image, Kind: puller.JobPull, Parent: j.ID}
			w.work.Go(func() {
				defer func() { <-slots }()
				for e, err := range w.Client.Events(ctx, child.ID) {
					if err != nil {
						return
					}
					w.showChild(child, e)
				}
			})
		}
	})
}

func (w *Children) showChild(child *puller.Job, e puller.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Result != nil {
		w.ended[child.ID] = true
	}
	w.Display.Show(child, e)
}

// finish waits for the results of the images. It asks for those that are not followed.
func (w *Children) finish(ctx context.Context, j *puller.Job) {
	limit, stop := context.WithTimeout(ctx, childrenLimit)
	defer stop()
	defer context.AfterFunc(limit, w.cancel)()
	w.work.Wait()
	for _, s := range j.Images {
		w.mu.Lock()
		ended := w.ended[s.Job]
		w.mu.Unlock()
		if s.Job == "" || ended || limit.Err() != nil {
			continue
		}
		child, err := w.Client.Job(limit, s.Job)
		if err == nil && child.State.Ended() {
			w.showChild(&child, puller.Event{Type: "result", Time: child.FinishedAt, Job: child.ID, Result: &child})
		}
	}
}

// Close ends what is left after an interrupt.
func (w *Children) Close() {
	if w.cancel != nil {
		w.cancel()
	}
	w.work.Wait()
	w.Display.Close()
}
