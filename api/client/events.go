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
	// maxEvent bounds one event, in bytes.
	maxEvent = 1 << 20
	// A stream that was cut is taken up again at most so often in a row
	// without an event in between, after so long each time.
	maxResumes  = 5
	resumeAfter = time.Second
)

// Events tells what happens to a job, from its acceptance to its result, which
// is the last event: all that is on record, and the layers as they are. A stream that is cut on the way is taken up where
// it was. The iteration ends after the result, or with the error that ended
// it.
func (c *Client) Events(ctx context.Context, id string) iter.Seq2[puller.Event, error] {
	return func(yield func(puller.Event, error) bool) {
		path := "/v1/jobs/" + url.PathEscape(id) + "/events"
		query := "?since=0"
		for failures := 0; ; {
			resp, err := c.send(ctx, http.MethodGet, path+query, http.Header{"Accept": {"application/x-ndjson"}}, nil)
			if err == nil {
				var last puller.Event
				heard := false
				last, heard, err = read(resp, yield)
				switch {
				case err == nil: // the result, or the caller has heard enough
					return
				case heard:
					failures = 0
				}
				if last.Seq != 0 {
					query = fmt.Sprintf("?since=%d", last.Seq)
				}
				err = c.broken(ctx, err)
			}
			var gone *Unreachable
			if failures++; !errors.As(err, &gone) || failures > maxResumes {
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
