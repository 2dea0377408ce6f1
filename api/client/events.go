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
	// maxEvent limits one event, in bytes. The result of a prewarm may have 1,000
	// errors of some KiB.
	maxEvent = 32 << 20
	// A stream that ends before its job is requested again after resumeAfter. It is
	// given up after resumeFor without an event: a daemon needs some time for an
	// update.
	resumeAfter = time.Second
	resumeFor   = time.Minute
)

// Events returns a job's events from its acceptance to its result, which is the last
// one: every numbered event, and layers at their latest. It resumes a stream that is
// cut, or that a restart of the daemon ends. The iteration ends after the result, or
// with an error.
func (c *Client) Events(ctx context.Context, id string) iter.Seq2[puller.Event, error] {
	return c.events(ctx, id, "")
}

// Wait returns a job when it has ended. Unlike one long request, it outlasts restarts of the
// daemon. A job that fails is returned with an error of its kind. The job goes on if ctx
// ends.
func (c *Client) Wait(ctx context.Context, id string) (puller.Job, error) {
	// Of layers, which nobody reads, few are sent.
	for e, err := range c.events(ctx, id, "&every=1m") {
		switch {
		case err != nil:
			return puller.Job{}, err
		case e.Result != nil:
			return *e.Result, jobError(e.Result)
		}
	}
	return puller.Job{}, errCut
}

// jobError returns why a job has not succeeded, or nil.
func jobError(j *puller.Job) error {
	if j.Error == nil {
		return nil
	}
	e := puller.Errorf(j.Error.Kind, "%s", j.Error.Message)
	e.RetryAfter = time.Duration(j.Error.RetryAfterSeconds * float64(time.Second))
	return e
}

// events is Events with more of a query.
func (c *Client) events(ctx context.Context, id, more string) iter.Seq2[puller.Event, error] {
	return func(yield func(puller.Event, error) bool) {
		path := "/v1/jobs/" + url.PathEscape(id) + "/events"
		query := "?since=0" + more
		var failing time.Time // since when no event has come; zero while events come
		for {
			resp, err := c.send(ctx, http.MethodGet, path+query, http.Header{"Accept": {"application/x-ndjson"}}, nil)
			if err == nil {
				var last puller.Event
				received := false
				last, received, err = read(resp, yield)
				switch {
				case err == nil: // the result, or the caller wants no more
					return
				case received:
					failing = time.Time{}
				}
				if last.Seq != 0 {
					query = fmt.Sprintf("?since=%d%s", last.Seq, more)
				}
				err = c.unanswered(ctx, err)
			}
			if failing.IsZero() {
				failing = time.Now()
			}
			if !temporary(err) || time.Since(failing) >= resumeFor {
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

// temporary reports whether an error may come from a restart of the daemon.
func temporary(err error) bool {
	var unreachable *Unreachable
	var other *foreignAnswer
	switch {
	case errors.As(err, &unreachable):
		return true
	case errors.As(err, &other): // a proxy in front of the daemon
		return other.code == http.StatusBadGateway || other.code == http.StatusServiceUnavailable || other.code == http.StatusGatewayTimeout
	}
	return puller.KindOf(err) == puller.ErrOverloaded
}

var errCut = errors.New("the stream of events was cut before its end")

// read yields the events of one answer. It returns the last numbered event and
// whether any event came. The error is nil after the result, and if the caller wants
// no more.
func read(resp *http.Response, yield func(puller.Event, error) bool) (last puller.Event, received bool, err error) {
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e puller.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return last, received, err
		}
		received = true
		if e.Seq != 0 {
			last = e
		}
		if !yield(e, nil) || e.Type == "result" {
			return last, received, nil
		}
	}
	if err := lines.Err(); err != nil {
		return last, received, err
	}
	return last, received, errCut
}
