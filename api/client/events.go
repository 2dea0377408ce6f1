package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/towline/towline/puller"
)

const (
	// maxEvent bounds one event, in bytes. The result of a prewarm may have a
	// thousand errors in it, of some KiB each.
	maxEvent = 32 << 20
	// A stream that ended before its job is asked for again after resumeAfter,
	// and given up when it has brought no event for resumeFor: a daemon that is
	// being updated takes its time to come back.
	resumeAfter = time.Second
	resumeFor   = time.Minute
)

// Events tells what happens to a job, from its acceptance to its result, which
// is the last event: all that is on record, and the layers as they are. A
// stream that is cut on the way, or ended by a daemon that restarts, is taken
// up where it was. The iteration ends after the result, or with the error that
// ended it.
func (c *Client) Events(ctx context.Context, id string) iter.Seq2[puller.Event, error] {
	return func(yield func(puller.Event, error) bool) {
		path := "/v1/jobs/" + url.PathEscape(id) + "/events"
		query := "?since=0"
		var silent time.Time // since when there has been no event, if there is none
		for {
			resp, err := c.send(ctx, http.MethodGet, path+query, http.Header{"Accept": {"application/x-ndjson"}}, nil)
			if err == nil {
				var last puller.Event
				heard := false
				last, heard, err = read(resp, yield)
				switch {
				case err == nil: // the result, or the caller has heard enough
					return
				case heard:
					silent = time.Time{}
				}
				if last.Seq != 0 {
					query = fmt.Sprintf("?since=%d", last.Seq)
				}
				err = c.broken(ctx, err)
			}
			if silent.IsZero() {
				silent = time.Now()
			}
			if !passes(err) || time.Since(silent) >= resumeFor {
				yield(puller.Event{}, err)
				return
			}
			select {
			case <-time.After(resumeAfter):
			case <-ctx.Done():
				yield(puller.Event{}, ctx.Err())
				return
			}
		}
	}
}

// passes reports whether an error may be one of a daemon that restarts.
func passes(err error) bool {
	var gone *Unreachable
	var other *foreign
	switch {
	case errors.As(err, &gone):
		return true
	case errors.As(err, &other): // a proxy that waits for the daemon, too
		return other.code == http.StatusBadGateway || other.code == http.StatusServiceUnavailable || other.code == http.StatusGatewayTimeout
	}
	return puller.KindOf(err) == puller.ErrOverloaded
}

var errCut = errors.New("the stream of events was cut before its end")

// read yields the events of one answer. It returns the last numbered one,
// whether there was any at all, and nil if no more are wanted.
func read(resp *http.Response, yield func(puller.Event, error) bool) (last puller.Event, heard bool, err error) {
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e puller.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return last, heard, err
		}
		heard = true
		if e.Seq != 0 {
			last = e
		}
		if !yield(e, nil) || e.Type == "result" {
			return last, heard, nil
		}
	}
	if err := lines.Err(); err != nil {
		return last, heard, err
	}
	return last, heard, errCut
}
