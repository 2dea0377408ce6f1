package mirror

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/alias"
	"github.com/towline/towline/puller/mirror/images"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/stream/pullstream"
)

// acceleration is a pull that a job wants. It implements engines.Acceleration: it has the
// engine pull what Towline fetches, and tells how far that is.
type acceleration struct {
	mirror  *Mirror
	request puller.Pull
	image   *images.Image // nil where the engine pulls by itself from the beginning
	joined  bool          // the engine brings a layer once for all pulls at a time

	name            string // the repository of the temporary name; "" if there is none
	file, reference string // the temporary name, and the file that notes it

	mu   sync.Mutex // taken before that of the image
	how  puller.Accelerated
	told map[string]bool // layers that readers know are here, by digest
	own  *own            // nil unless it has begun
}

// content implements offer.
func (a *acceleration) content() *images.Image { return a.image }

// use implements offer. The job ends it.
func (a *acceleration) use() (end func()) { return func() {} }

// lookUp implements offer. Only under the image's own name a tag can be asked for.
func (a *acceleration) lookUp(_ context.Context, reference string) (string, error) {
	if a.image.Manifests.Lists(reference) {
		return reference, nil
	}
	if at := names.ParseName(a.request.Image); a.name == "" && at.Digest == "" && at.Tag == reference {
		return a.image.Manifests.Digest(), nil
	}
	return "", images.Unlisted(puller.Clip(reference))
}

// alias gives the pull a temporary name.
func (a *acceleration) alias() (err error) {
	address, fault := a.mirror.endpoint()
	if fault != "" {
		return errors.New(fault)
	}
	a.name = alias.NewName()
	a.reference = address + "/" + a.name + "@" + a.image.Manifests.Digest()
	a.file, err = a.mirror.aliases.Add(a.reference)
	if err == nil {
		a.mirror.mu.Lock()
		a.mirror.pulls[a.name] = a
		a.mirror.mu.Unlock()
	}
	return err
}

// Pull implements engines.Acceleration.
func (a *acceleration) Pull(ctx context.Context, each func(pullstream.Message)) error {
	engine := a.mirror.o.Engine
	var telling sync.Mutex
	tell := func(m pullstream.Message) {
		telling.Lock()
		defer telling.Unlock()
		each(m)
	}
	if way := a.how.Way; way != puller.WayNone {
		defer a.endOwn()
		err := a.through(ctx, tell)
		if err == nil && way == puller.WayAlias {
			a.mirror.metrics.lookups.Inc()
		}
		switch {
		case err == nil && way == puller.WayMirror:
			return nil
		case err == nil && a.own != nil:
			return a.own.finish(tell)
		}
		a.endOwn()
		if ctx.Err() != nil || puller.KindOf(err) == puller.ErrEngineUnavailable {
			return err // the next attempt goes on from here
		}
		if err != nil {
			a.fallBack(err, tell)
		}
	}
	return engine.Pull(ctx, a.request, tell)
}

// through has the engine pull what Towline fetches. In the mirror way that is the pull
// itself.
func (a *acceleration) through(ctx context.Context, tell func(pullstream.Message)) error {
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		a.show(ctx, tell)
	}()
	defer func() {
		a.image.Stop()
		<-shown
	}()
	request := a.request
	if a.how.Way == puller.WayAlias {
		request.Image, request.Credentials = a.reference, puller.Credentials{}
	}
	pulling := a.image.Context()
	if a.how.Way == puller.WayMirror {
		pulling = ctx // the engine goes on by itself where Towline fails
	}
	each := func(m pullstream.Message) {
		if a.note(m) {
			a.tellWhole(m, tell)
			tell(m)
		}
		if b, ok := a.image.Manifests.Layer(m.ID); ok && m.Status == "Pulling fs layer" {
			tell(pullstream.Message{ID: m.ID, Status: "Downloading", Detail: pullstream.Detail{Total: b.Size}})
		}
	}
	err := a.mirror.o.Engine.Pull(pulling, request, each)
	if err != nil && a.how.Way == puller.WayAlias && a.image.Context().Err() == nil && puller.KindOf(err) != puller.ErrEngineUnavailable {
		// A blob whose digest was wrong is fetched again, but the engine had got some of
		// its bytes.
		a.endOwn()
		err = a.mirror.o.Engine.Pull(pulling, request, each)
	}
	switch cause := context.Cause(a.image.Context()); {
	case ctx.Err() != nil:
	case err == nil && cause != nil && a.how.Way == puller.WayMirror:
		a.fallBack(cause, tell) // the engine has gone on with the registry
	case err == nil:
	case cause != nil:
		err = cause
	default:
		a.mirror.ways.Doubt() // the fetch went well, so it may be the engine
	}
	return err
}

// fallBack says that the engine pulls by itself, and why.
func (a *acceleration) fallBack(err error, tell func(pullstream.Message)) {
	reason := puller.Inner(err).Error()
	a.mu.Lock()
	a.how.Way, a.how.Reason = puller.WayNone, "the accelerated pull failed: "+reason
	a.mu.Unlock()
	a.mirror.o.Log.WithField("image", a.request.Image).Warn("the accelerated pull failed, and the engine pulls by itself: " + reason)
	a.mirror.metrics.fallbacks.Inc()
	tell(pullstream.Message{Status: "the accelerated pull failed, and the engine pulls by itself: " + puller.ClipTo(reason, 1<<10)})
}

// note takes in a message of the engine, and reports whether readers are told of it.
// Which layers the engine lacks only its messages say. How far they are, Towline knows
// better.
func (a *acceleration) note(m pullstream.Message) (tell bool) {
	if _, failed := m.Failure(); failed {
		return a.how.Way == puller.WayMirror
	}
	if m.ID == "" {
		// In the alias way the end of the stream is not that of the image's own name.
		ending := strings.HasPrefix(m.Status, "Digest: ") || strings.HasPrefix(m.Status, "Status: ")
		return a.how.Way == puller.WayMirror || !ending
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting", "Downloading":
		if b, ok := a.image.Manifests.Layer(m.ID); ok {
			a.image.Want(b.Digest)
			return m.Status != "Downloading"
		}
	case "Already exists":
		if b, ok := a.image.Manifests.Layer(m.ID); ok {
			a.image.Has(b.Digest)
		}
	case "Verifying Checksum", "Download complete":
		_, ok := a.image.Manifests.Layer(m.ID)
		return !ok
	}
	return true
}

// showEvery is how often readers are told how far the layers are.
const showEvery = 200 * time.Millisecond

// show tells how far the layers are that the engine lacks, until the image is stopped. When
// they are here, it begins the pull of the image's own name.
func (a *acceleration) show(ctx context.Context, tell func(pullstream.Message)) {
	told := make(map[string]int64)
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	for ended := false; ; {
		for _, notice := range a.image.TakeNotices() {
			tell(pullstream.Message{Status: notice})
		}
		for _, b := range a.image.Progress() {
			if told[b.Digest] == b.Have {
				continue
			}
			told[b.Digest] = b.Have
			if b.Have < b.Size {
				tell(downloading(b.Blob, b.Have))
			} else if a.firstWhole(b.Digest) {
				tellDownloaded(b.Blob, tell)
			}
		}
		if ended {
			return
		}
		select {
		case <-a.image.Context().Done():
			ended = true // once more, for what came last
		case <-a.image.Arrived():
			a.beginOwn(ctx)
		case <-ticker.C:
		}
	}
}

// tellWhole tells that a layer is here before the engine's message that it does something
// with it: show may not have come to it.
func (a *acceleration) tellWhole(m pullstream.Message, tell func(pullstream.Message)) {
	if m.Status != "Extracting" && m.Status != "Pull complete" {
		return
	}
	if b, ok := a.image.Manifests.Layer(m.ID); ok && a.firstWhole(b.Digest) {
		tellDownloaded(b, tell)
	}
}

// firstWhole reports whether readers are to be told now that a layer is here.
func (a *acceleration) firstWhole(digest string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.image.Wanted(digest) || a.told[digest] {
		return false
	}
	if a.told == nil {
		a.told = make(map[string]bool)
	}
	a.told[digest] = true
	return true
}

func tellDownloaded(b puller.Blob, tell func(pullstream.Message)) {
	tell(downloading(b, b.Size))
	tell(pullstream.Message{ID: images.ShortID(b.Digest), Status: "Download complete"})
}

func downloading(b puller.Blob, have int64) pullstream.Message {
	return pullstream.Message{ID: images.ShortID(b.Digest), Status: "Downloading", Detail: pullstream.Detail{Current: have, Total: b.Size}}
}

// Accelerated implements engines.Acceleration.
func (a *acceleration) Accelerated() puller.Accelerated {
	a.mu.Lock()
	defer a.mu.Unlock()
	how := a.how
	if a.image != nil {
		how.FromRegistry, how.FromPeers, how.FromCache = a.image.Sources()
	}
	return how
}

// Close implements engines.Acceleration.
func (a *acceleration) Close() {
	m := a.mirror
	m.mu.Lock()
	if a.name != "" {
		delete(m.pulls, a.name)
	}
	if m.named[a.request.Image] == a {
		delete(m.named, a.request.Image)
	}
	m.mu.Unlock()
	if a.file != "" {
		m.aliases.Remove(a.file, names.EngineRef(a.reference))
	}
	if a.image != nil {
		a.image.Close()
	}
}
