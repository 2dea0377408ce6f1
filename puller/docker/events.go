package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/api/types/events"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// maxEvent bounds one event, in bytes.
const maxEvent = 1 << 20

// Events implements puller.Engine.
func (e *Engine) Events(ctx context.Context, since time.Time, each func(puller.EngineEvent)) error {
	fail := func(err error) error { return e.conn.Classified(ctx, classify.OpEvents, "", err) }
	sdk, err := e.conn.ClientInTime(ctx)
	if err != nil {
		return fail(err)
	}
	query := url.Values{"filters": {`{"type":{"container":true,"image":true}}`}}
	if !since.IsZero() {
		query.Set("since", transport.Time(since))
	}
	body, err := e.conn.Stream(ctx, sdk, http.MethodGet, "/events?"+query.Encode(), nil)
	if err != nil {
		return fail(err)
	}
	defer body.Close()
	each(puller.EngineEvent{Time: time.Now(), Type: puller.EngineConnected})
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var m events.Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fail(&classify.StreamError{Err: err})
		}
		if v, ok := engineEvent(m); ok {
			each(v)
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF // the stream has no end of its own
	}
	return fail(&classify.StreamError{Err: err})
}

// engineEvent returns an event of an image or a container.
func engineEvent(m events.Message) (v puller.EngineEvent, ok bool) {
	v = puller.EngineEvent{Time: time.Unix(0, m.TimeNano), Action: string(m.Action), ID: puller.ClipTo(m.Actor.ID, maxName)}
	if m.TimeNano == 0 {
		v.Time = time.Unix(m.Time, 0)
	}
	switch m.Type {
	case events.ImageEventType:
		v.Type, v.Image = puller.EngineImage, m.Actor.Attributes["name"]
	case events.ContainerEventType:
		v.Type, v.Image = puller.EngineContainer, m.Actor.Attributes["image"]
	}
	v.Image = puller.ClipTo(v.Image, maxName)
	return v, v.Type != ""
}

// maxName bounds what is kept of a name in an event, in bytes.
const maxName = 512
