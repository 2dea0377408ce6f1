package mirror

import (
	"context"
	"sync"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// own is the engine's pull of the image's own name, begun before its pull of the
// temporary name has ended. While the engine unpacks the last layers, it asks the registry
// for the manifest.
type own struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // then

	mu   sync.Mutex
	tell func(pullstream.Message) // nil while messages are held
	held []pullstream.Message
}

// joins reports whether an engine brings a layer once for all pulls that want it at a
// time. Graph drivers do. With the containerd image store, one pull waits for the other
// and looks again now and then.
func joins(engine puller.EngineInfo) bool {
	return engine.ImageStore != "" && engine.ImageStore != puller.StoreContainerd
}

// beginOwn begins the pull of the image's own name when each layer that the engine lacks
// is here: from then on this pull has nothing to bring. What it tells of the layers is
// told already.
func (a *acceleration) beginOwn(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.joined || a.own != nil || a.image.Context().Err() != nil || !a.image.Here() {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &own{cancel: cancel, done: make(chan struct{})}
	a.own = o
	request := a.request
	request.Connected = nil // told of the first pull
	a.mirror.metrics.lookups.Inc()
	go func() {
		defer close(o.done)
		o.err = a.mirror.o.Engine.Pull(ctx, request, func(m pullstream.Message) {
			if _, ours := a.image.Manifests.Layer(m.ID); !ours {
				o.note(m)
			}
		})
	}()
}

// note tells a message, or holds it.
func (o *own) note(m pullstream.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tell != nil {
		o.tell(m)
		return
	}
	o.held = append(o.held, m)
}

// finish tells what was held, and all that follows, and waits for the end.
func (o *own) finish(tell func(pullstream.Message)) error {
	o.mu.Lock()
	for _, m := range o.held {
		tell(m)
	}
	o.held, o.tell = nil, tell
	o.mu.Unlock()
	<-o.done
	return o.err
}

// endOwn ends a pull of the image's own name that was begun too early.
func (a *acceleration) endOwn() {
	a.mu.Lock()
	o := a.own
	a.own = nil
	a.mu.Unlock()
	if o != nil {
		o.cancel()
		<-o.done
	}
}
