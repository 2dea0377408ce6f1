package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// clients use one daemon that comes and goes. Each does one thing after
// the other, and none gives a job up that it knows of.
type clients struct {
	*observations
	towline *lab.Towline
	load    context.Context // while they ask for more
	life    context.Context // while they wait for what they asked for
	refs    []string
	lost    string // a reference that there is nothing under
	work    sync.WaitGroup
}

// ask is one request for a job.
type ask struct {
	path, body, key   string
	private, failFast bool
	since             int // kills before it was asked for
}

// mostOpen keeps the load such that its end comes soon after the last kill.
const mostOpen = 30

func (c *clients) client(seed, n uint64) {
	dice := rand.New(rand.NewPCG(seed, n))
	for c.load.Err() == nil {
		switch roll := dice.IntN(100); {
		case roll < 55:
			if c.unended() < mostOpen {
				c.submit(dice, c.pull(dice))
			}
		case roll < 65:
			if c.unended() < mostOpen {
				c.submit(dice, c.prewarm(dice))
			}
		case roll < 73:
			if id := c.pick(dice.Int(), false); id != "" {
				c.cancelJob(id)
			}
		case roll < 90:
			if id := c.pick(dice.Int(), true); id != "" {
				c.get(id)
			}
		default:
			c.list(c.pick(dice.Int(), true), 50)
		}
		c.pause(time.Duration(dice.IntN(20)) * time.Millisecond)
	}
}

func (c *clients) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.life.Done():
	}
}

var policies = []puller.Policy{"", puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNewer, puller.PolicyMissing, puller.PolicyAlways, puller.PolicyNever}

// image returns what a pull or a child asks for. Who has a key asks by tags of
// their own, so that what is under them is told apart at the end.
func (c *clients) image(dice *rand.Rand, keyed bool) string {
	ref := c.refs[dice.IntN(len(c.refs))]
	if dice.IntN(12) == 0 {
		ref = c.lost
	}
	if keyed {
		ref = strings.TrimSuffix(ref, ":v1") + ":keyed"
	}
	return ref
}

func (c *clients) pull(dice *rand.Rand) ask {
	a := ask{path: "/v1/pulls", private: dice.IntN(8) == 0}
	a.key = c.key(dice)
	policy, priority := policies[dice.IntN(len(policies))], []puller.Priority{"", puller.PriorityHigh, puller.PriorityLow}[dice.IntN(3)]
	ten := 10
	body, _ := json.Marshal(puller.PullRequest{Image: c.image(dice, a.key != ""), Policy: policy, Priority: priority, Retries: &ten})
	a.body = string(body)
	return a
}

func (c *clients) prewarm(dice *rand.Rand) ask {
	a := ask{path: "/v1/prewarms", private: dice.IntN(10) == 0, failFast: dice.IntN(4) == 0}
	a.key = c.key(dice)
	var images []string
	for range 2 + dice.IntN(5) {
		images = append(images, c.image(dice, a.key != ""))
	}
	body, _ := json.Marshal(map[string]any{
		"images": images, "fail_fast": a.failFast, "retries": 10,
		"policy": policies[1+dice.IntN(3)], // what the first says holds for all
	})
	a.body = string(body)
	return a
}

func (c *clients) key(dice *rand.Rand) string {
	if dice.IntN(2) == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", dice.Uint64())
}

var auth = base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"lovelace"}`))

func (a ask) header(accept string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	if a.key != "" {
		h.Set("Idempotency-Key", a.key)
	}
	if a.private {
		h.Set("X-Registry-Auth", auth)
	}
	if accept != "" {
		h.Set("Accept", accept)
	}
	return h
}

// submit asks until there is an answer, or once where a second request would be
// a second job, and sees to it that the job is followed to its end.
func (c *clients) submit(dice *rand.Rand, a ask) {
	c.mu.Lock()
	a.since = c.kills
	c.mu.Unlock()
	for c.life.Err() == nil {
		id, answered := "", false
		switch way := dice.IntN(4); way {
		case 0:
			id = c.plain(a)
			answered = id != ""
		case 1:
			answered = c.wait(a)
		default:
			id = c.streamed(dice, a, way == 2)
			answered = id != ""
		}
		if id != "" {
			c.follow(dice, id)
		}
		if a.key == "" && !answered {
			c.mu.Lock()
			c.unanswered++
			c.mu.Unlock()
			return
		}
		// Some clients did not see their answer, and ask again.
		if answered && (a.key == "" || dice.IntN(5) > 0) {
			return
		}
		c.pause(20 * time.Millisecond)
	}
}

// plain is a submission that a 202 answers.
func (c *clients) plain(a ask) (id string) {
	asked := time.Now()
	status, header, raw := c.call(http.MethodPost, a.path, a.header(""), a.body)
	if status == 0 {
		return ""
	}
	var v puller.Job
	if err := json.Unmarshal(raw, &v); err != nil || status != http.StatusAccepted || header.Get("Location") != "/v1/jobs/"+v.ID {
		c.Errorf("%+v: %d %v %s", a, status, header, raw)
		return ""
	}
	c.accepted(v.ID, a)
	c.told(raw, "a 202", asked)
	return v.ID
}

// wait is a submission that is answered when the job has ended.
func (c *clients) wait(a ask) (answered bool) {
	status, header, raw := c.call(http.MethodPost, a.path+"?wait=true", a.header(""), a.body)
	if status == 0 {
		return false
	}
	id := strings.TrimPrefix(header.Get("Location"), "/v1/jobs/")
	if id == "" {
		c.Errorf("%+v: %d %s", a, status, raw)
		return true
	}
	c.accepted(id, a)
	if status == http.StatusOK {
		if v := c.told(raw, "a call that waited", time.Now()); v.State != puller.StateSucceeded {
			c.Errorf("%d %s", status, raw)
		}
		return true
	}
	var p struct {
		Job, Detail string
		Kind        puller.ErrorKind
	}
	json.Unmarshal(raw, &p)
	if v := c.get(id); c.life.Err() == nil && (v.Error == nil || p.Job != id || v.Error.Kind != p.Kind || v.Error.Message != p.Detail) {
		c.Errorf("a call that waited is told %s, of the job %+v %+v", raw, v, v.Error)
	}
	return true
}

// streamed is a submission that the job's events answer. The reader goes on
// where it was cut off.
func (c *clients) streamed(dice *rand.Rand, a ask, sse bool) (id string) {
	r := &reader{clients: c, sse: sse}
	resp, err := c.towline.Do(c.life, http.MethodPost, a.path, a.header(r.media()), strings.NewReader(a.body))
	if err != nil {
		return ""
	}
	r.id = strings.TrimPrefix(resp.Header.Get("Location"), "/v1/jobs/")
	if resp.StatusCode != http.StatusOK || r.id == "" {
		raw, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		c.Errorf("%+v: %s %s", a, resp.Status, raw)
		return ""
	}
	c.accepted(r.id, a)
	resuming := dice.IntN(2)
	c.work.Go(func() {
		r.take(resp)
		r.toEnd(resuming)
	})
	return r.id
}

// follow has a job watched by some more.
func (c *clients) follow(dice *rand.Rand, id string) {
	c.work.Go(func() {
		for !c.get(id).State.Ended() && c.life.Err() == nil {
			c.pause(200 * time.Millisecond)
		}
	})
	for range dice.IntN(3) {
		r := &reader{clients: c, id: id, sse: dice.IntN(2) == 0, whole: dice.IntN(2) == 0}
		resuming := dice.IntN(2)
		c.work.Go(func() { r.toEnd(resuming) })
	}
}

// call makes a call; the status is 0 where there was no whole answer.
func (c *clients) call(method, target string, header http.Header, body string) (status int, _ http.Header, raw []byte) {
	resp, err := c.towline.Do(c.life, method, target, header, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, nil
	}
	return resp.StatusCode, resp.Header, raw
}

// ever is call, as often as it takes.
func (c *clients) ever(method, target string) (status int, raw []byte, asked time.Time) {
	for c.life.Err() == nil {
		asked = time.Now()
		if status, _, raw = c.call(method, target, nil, ""); status != 0 {
			return status, raw, asked
		}
		c.pause(20 * time.Millisecond)
	}
	return 0, nil, asked
}

func (c *clients) get(id string) (v puller.Job) {
	switch status, raw, asked := c.ever(http.MethodGet, "/v1/jobs/"+id); status {
	case 0:
	case http.StatusOK:
		v = c.told(raw, "a GET", asked)
	default:
		c.Errorf("job %s is gone: %d %s", id, status, raw)
		v.State = puller.StateFailed // nobody need wait for it
	}
	return v
}

func (c *clients) cancelJob(id string) {
	c.cancel(id)
	status, _, raw := c.call(http.MethodDelete, "/v1/jobs/"+id, nil, "")
	switch status {
	case 0:
	case http.StatusOK:
		if v := c.told(raw, "a cancel", time.Now()); v.State != puller.StateCanceled && v.Kind != puller.JobPrewarm {
			c.Errorf("canceled, it is %s", raw)
		}
	case http.StatusConflict:
		if v := c.get(id); c.life.Err() == nil && !v.State.Ended() {
			c.Errorf("it had ended, said a cancel, and is %+v", v)
		}
	default:
		c.Errorf("the cancel of %s: %d %s", id, status, raw)
	}
}

// list reads a page of jobs and returns them, and the cursor of the next.
func (c *clients) list(cursor string, limit int) (page []puller.Job, next string) {
	status, raw, asked := c.ever(http.MethodGet, fmt.Sprintf("/v1/jobs?limit=%d&cursor=%s", limit, cursor))
	var answer struct {
		Jobs []json.RawMessage
		Next string
	}
	if err := json.Unmarshal(raw, &answer); status != 0 && (err != nil || status != http.StatusOK) {
		c.Errorf("%d %s", status, raw)
	}
	for _, raw := range answer.Jobs {
		page = append(page, c.told(raw, "a list", asked))
	}
	return page, answer.Next
}

// reader reads one job's events to the last, however often it is cut off.
type reader struct {
	*clients
	id    string
	sse   bool
	whole bool // from the job's beginning
	seqs  []uint64
	ended bool
}

func (r *reader) media() string {
	if r.sse {
		return "text/event-stream"
	}
	return "application/x-ndjson"
}

// toEnd reads until the result, resuming by the query or by the header.
func (r *reader) toEnd(resuming int) {
	for !r.ended && r.life.Err() == nil {
		target, header := "/v1/jobs/"+r.id+"/events", http.Header{"Accept": {r.media()}}
		switch n := len(r.seqs); {
		case n > 0 && resuming == 0:
			header.Set("Last-Event-ID", strconv.FormatUint(r.seqs[n-1], 10))
		case n > 0:
			target += "?since=" + strconv.FormatUint(r.seqs[n-1], 10)
		case r.whole:
			target += "?since=0"
		}
		resp, err := r.towline.Do(r.life, http.MethodGet, target, header, nil)
		if err != nil {
			r.pause(20 * time.Millisecond)
			continue
		}
		if resp.StatusCode != http.StatusOK {
			raw, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			r.Errorf("%s: %s %s", target, resp.Status, raw)
			return
		}
		r.take(resp)
	}
	if r.ended && r.whole {
		r.read(r.id, r.seqs)
	}
}

// take reads one answer to its end, or to where it is cut off.
func (r *reader) take(resp *http.Response) {
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	var number string
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			// A daemon that is killed ends its streams without a result.
			if err == io.EOF && !r.ended && r.life.Err() == nil {
				r.Errorf("the events of %s have ended without a result, after %d", r.id, r.seqs)
				r.ended = true
			}
			return
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !r.sse {
			r.hear(line, "")
			continue
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "id":
			number = string(value)
		case "data":
			r.hear(value, number)
			number = ""
		}
	}
}

func (r *reader) hear(raw []byte, number string) {
	e := r.event(r.id, raw)
	if r.ended {
		r.Errorf("after the result of %s comes %s", r.id, raw)
	}
	r.ended = r.ended || e.Type == "result"
	if e.Seq == 0 {
		return
	}
	if n := len(r.seqs); n > 0 && r.seqs[n-1] >= e.Seq || r.sse && number != strconv.FormatUint(e.Seq, 10) {
		r.Errorf("a reader of %s has heard %d, and now under %q %s", r.id, r.seqs, number, raw)
	}
	r.seqs = append(r.seqs, e.Seq)
}
