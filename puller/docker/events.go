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
	"github.com/towline/towline/puller/engines"
)

// maxEvent bounds one event, in bytes.
const maxEvent = 1 << 20

// Events implements engines.Engine.
func (e *Engine) Events(ctx context.Context, since time.Time, each func(engines.Event)) error {
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
	each(engines.Event{Time: time.Now(), Type: engines.EventConnected})
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
func engineEvent(m events.Message) (v engines.Event, ok bool) {
	v = engines.Event{Time: time.Unix(0, m.TimeNano), Action: string(m.Action), ID: puller.ClipTo(m.Actor.ID, maxName)}
	if m.TimeNano == 0 {
		v.Time = time.Unix(m.Time, 0)
	}
	switch m.Type {
	case events.ImageEventType:
		v.Type, v.Image = engines.EventImage, m.Actor.Attributes["name"]
	case events.ContainerEventType:
		v.Type, v.Image = engines.EventContainer, m.Actor.Attributes["image"]
	}
	v.Image = puller.ClipTo(v.Image, maxName)
	return v, v.Type != ""
}

// maxName bounds what is kept of a name in an event, in bytes.
const maxName = 512
