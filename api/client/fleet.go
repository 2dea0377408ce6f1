package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// Fleet are the calls about the fleet that the daemon's host is in.
type Fleet struct{ c *Client }

// Fleet returns the calls about the fleet.
func (c *Client) Fleet() Fleet { return Fleet{c} }

// Link says how the daemon's host stands to its fleet.
func (f Fleet) Link(ctx context.Context) (fleet.Link, error) {
	var l fleet.Link
	return l, f.c.call(ctx, http.MethodGet, "/v1/fleet", nil, nil, &l)
}

// Sets returns all sets of the fleet, without their members.
func (f Fleet) Sets(ctx context.Context) ([]fleet.Set, error) {
	var answer struct{ Sets []fleet.Set }
	err := f.c.call(ctx, http.MethodGet, "/v1/fleet/sets", nil, nil, &answer)
	return answer.Sets, err
}

// mostOfPage is how many members or hosts a page may have.
const mostOfPage = 1000

// Set returns a set of the fleet with all its members, or only those in a state.
func (f Fleet) Set(ctx context.Context, name string, state fleet.State) (fleet.Set, error) {
	var whole fleet.Set
	q := url.Values{"limit": {strconv.Itoa(mostOfPage)}}
	if state != "" {
		q.Set("state", string(state))
	}
	for first := true; ; first = false {
		var page struct {
			fleet.Set
			Next string
		}
		if err := f.c.call(ctx, http.MethodGet, fleetSetPath(name)+"?"+q.Encode(), nil, nil, &page); err != nil {
			return fleet.Set{}, err
		}
		if first {
			whole = page.Set
		} else {
			whole.Members = append(whole.Members, page.Members...)
		}
		if page.Next == "" {
			return whole, nil
		}
		q.Set("cursor", page.Next)
	}
}

func fleetSetPath(name string) string { return "/v1/fleet/sets/" + url.PathEscape(name) }

// PutSet makes or replaces a set of the fleet, and returns it without its members.
func (f Fleet) PutSet(ctx context.Context, name string, r FleetSetRequest) (fleet.Set, error) {
	var s fleet.Set
	return s, f.c.callJSON(ctx, http.MethodPut, fleetSetPath(name), r, &s)
}

// WaitSet returns a set, without its members, when all of them that are not away have
// proven a generation. The error says which have not, and why. It outlasts restarts of the
// daemon. The hosts go on if ctx ends.
func (f Fleet) WaitSet(ctx context.Context, name string, generation uint64) (fleet.Set, error) {
	var failing time.Time // since when the daemon does not answer
	for {
		var s fleet.Set
		began := time.Now()
		err := f.c.call(ctx, http.MethodGet, fleetSetPath(name)+"?wait=true&generation="+strconv.FormatUint(generation, 10), nil, nil, &s)
		if err == nil || !cutOff(err) {
			return s, err
		}
		if failing.IsZero() || time.Since(began) >= resumeFor { // it had answered the connection
			failing = time.Now()
		}
		if time.Since(failing) >= resumeFor {
			return s, err
		}
		select {
		case <-time.After(resumeAfter):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// cutOff reports whether a daemon that restarts may be why there is no answer.
func cutOff(err error) bool {
	var unreachable *Unreachable
	var other *foreignAnswer
	return (errors.As(err, &unreachable) || errors.As(err, &other)) && temporary(err)
}

// DeleteSet forgets a set of the fleet. Its images stay on the hosts.
func (f Fleet) DeleteSet(ctx context.Context, name string) (fleet.Set, error) {
	var s fleet.Set
	return s, f.c.call(ctx, http.MethodDelete, fleetSetPath(name), nil, nil, &s)
}

// ChangeRollout pauses, resumes or cancels the rollout of a set.
func (f Fleet) ChangeRollout(ctx context.Context, name string, action fleet.RolloutAction) (fleet.Set, error) {
	var s fleet.Set
	return s, f.c.call(ctx, http.MethodPost, fleetSetPath(name)+"/"+url.PathEscape(string(action)), nil, nil, &s)
}

// Hosts returns the hosts of the fleet that have all of the labels, by ID.
func (f Fleet) Hosts(ctx context.Context, labels map[string]string) ([]fleet.Host, error) {
	all := []fleet.Host{}
	q := url.Values{"limit": {strconv.Itoa(mostOfPage)}}
	for name, value := range labels {
		q.Add("label", name+"="+value)
	}
	for {
		var page struct {
			Hosts []fleet.Host
			Next  string
		}
		if err := f.c.call(ctx, http.MethodGet, "/v1/fleet/hosts?"+q.Encode(), nil, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Hosts...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("cursor", page.Next)
	}
}

// Invite makes credentials for a host. They are told once.
func (f Fleet) Invite(ctx context.Context, r InviteRequest) (fleet.Invitation, error) {
	var i fleet.Invitation
	return i, f.c.callJSON(ctx, http.MethodPost, "/v1/fleet/hosts", r, &i)
}

// RemoveHost forgets a host, and withdraws its invitation.
func (f Fleet) RemoveHost(ctx context.Context, id string) (fleet.Host, error) {
	var h fleet.Host
	return h, f.c.call(ctx, http.MethodDelete, "/v1/fleet/hosts/"+url.PathEscape(id), nil, nil, &h)
}

// Events returns the events of a set of the fleet and its members, or those of all sets
// and hosts if name is "". They begin with the present state. It comes again where the stream
// is cut, and then with the present state again. The iteration ends with an error.
func (f Fleet) Events(ctx context.Context, name string) iter.Seq2[fleet.Event, error] {
	return func(yield func(fleet.Event, error) bool) {
		path := "/v1/fleet/events"
		if name != "" {
			path += "?" + url.Values{"set": {name}}.Encode()
		}
		var failing time.Time // since when no event has come; zero while events come
		for {
			resp, err := f.c.send(ctx, http.MethodGet, path, http.Header{"Accept": {"application/x-ndjson"}}, nil)
			if err == nil {
				var received, more bool
				if received, more, err = readFleet(resp, yield); !more {
					return
				}
				if received {
					failing = time.Time{}
				}
				err = f.c.unanswered(ctx, err)
			}
			if failing.IsZero() {
				failing = time.Now()
			}
			if !temporary(err) || time.Since(failing) >= resumeFor {
				yield(fleet.Event{}, err)
				return
			}
			select {
			case <-time.After(resumeAfter):
			case <-ctx.Done():
				yield(fleet.Event{}, ctx.Err())
				return
			}
		}
	}
}

// readFleet yields the events of one answer. more is false if the caller wants no more.
func readFleet(resp *http.Response, yield func(fleet.Event, error) bool) (received, more bool, err error) {
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e fleet.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return received, true, err
		}
		received = true
		if !yield(e, nil) {
			return received, false, nil
		}
	}
	if err := lines.Err(); err != nil {
		return received, true, err
	}
	return received, true, puller.Errorf(puller.ErrOverloaded, "%w", errCut)
}
