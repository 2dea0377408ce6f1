package containers

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker/docker/api/types/events"

	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

const (
	// eventDelay is the longest time from an exit to its event.
	eventDelay = 2 * time.Second
	// leastEvents is how many events every engine keeps (64 before Docker 17.04, 256
	// since). Where there are fewer, the engine has dropped none.
	leastEvents = 64
)

// ContainerEvents implements engines.Engine. dockerd keeps its last events in memory, so a
// restart loses them. While dockerd stops, it ends its containers and still answers on
// open connections, but accepts no new ones. So this call uses a new connection.
func (e *Driver) ContainerEvents(ctx context.Context, id string) (w engines.ContainerEvents, err error) {
	fail := func(err error) (engines.ContainerEvents, error) {
		return engines.ContainerEvents{}, e.conn.Classified(ctx, classify.OpFollow, "", err)
	}
	sdk, err := e.conn.ClientInTime(ctx)
	if err != nil {
		return fail(err)
	}
	state, err := e.state(ctx, sdk, classify.OpFollow, id)
	if err != nil {
		return engines.ContainerEvents{}, err
	}
	started, err1 := time.Parse(time.RFC3339Nano, state.StartedAt)
	finished, err2 := time.Parse(time.RFC3339Nano, state.FinishedAt)
	if err1 != nil || err2 != nil || finished.Before(started) || started.Unix() <= 0 {
		return engines.ContainerEvents{}, nil
	}
	limit, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	sdk, err = e.conn.FreshClient(sdk)
	if err != nil {
		return fail(err)
	}
	messages, failed := sdk.Events(limit, events.ListOptions{Since: transport.Time(started.Add(-time.Second)), Until: transport.Time(finished.Add(eventDelay))})
	all := 0
	for ; !w.Exit; all++ { // later events do not matter
		select {
		case m := <-messages:
			if m.Type == events.ContainerEventType && m.Actor.ID == id {
				w.Start = w.Start || m.Action == events.ActionStart
				w.Exit = m.Action == events.ActionDie
			}
			continue
		case err := <-failed:
			if !errors.Is(err, io.EOF) {
				return fail(err)
			}
		}
		break
	}
	if all >= leastEvents || w.Start && w.Exit {
		return w, nil
	}
	// Podman keeps its events on disk, and its containers do not end with it.
	version, err := sdk.ServerVersion(limit)
	if err != nil {
		return w, e.conn.Classified(ctx, classify.OpInfo, "", err)
	}
	w.Complete = !transport.IsPodman(version)
	return w, nil
}
