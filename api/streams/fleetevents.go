package streams

import (
	"cmp"
	"context"
	"io"
	"net/http"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// OfFleet is GET /v1/fleet/events: the events of the fleet, or those of a set with its
// members, to the daemon's end. They have no numbers: a reader that comes back gets the
// present state.
func (s *Events) OfFleet(w http.ResponseWriter, r *http.Request) error {
	frames, from, err := s.fleet.Watch(r.URL.Query().Get("set"))
	if err != nil {
		return err
	}
	last := false
	next := func(ctx context.Context) (*stream.Batch, error) {
		if last {
			return nil, io.EOF
		}
		b, err := from.Next(ctx, heartbeatAfter)
		switch {
		case err == io.EOF:
			last = true
			return stream.NewBatch(puller.NoticeEvent(0, "", "towline is shutting down; the fleet goes on", 0).Frame()), nil
		case b == nil && err == nil:
			return stream.NewBatch(puller.HeartbeatFrame("")), nil
		}
		return b, err
	}
	media := cmp.Or(Media(r), "application/x-ndjson")
	s.stream(w, r, media, &reader{format: medias[media], next: next, ended: func() bool { return false }}, stream.NewBatch(frames...))
	return nil
}
