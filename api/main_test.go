package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(contracttest.Main{M: m}) }

// daemon is all of Towline's API over a scripted engine.
type daemon struct{ *apitest.Daemon }

// start serves the API over TCP.
func start(t *testing.T, change ...func(*jobs.Options)) *daemon {
	t.Helper()
	return &daemon{apitest.Start(t, change...)}
}

// startInMemory serves the API on connections in memory, for tests in a synctest bubble.
func startInMemory(t *testing.T, change ...func(*jobs.Options)) *daemon {
	t.Helper()
	return &daemon{apitest.StartInMemory(t, change...)}
}

// good makes the engine serve an image.
func (d *daemon) good(image string, seed int) puller.Image {
	i := enginetest.NewImage(image, seed)
	d.Engine.Script(image, enginetest.Serve(i))
	return i
}

// held makes the engine stop in the middle of a pull of the image until the
// gate is closed; then the pull ends well.
func (d *daemon) held(image string) (gate chan struct{}) {
	gate = make(chan struct{})
	i := enginetest.NewImage(image, 7)
	d.Engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling from image","id":"v1"}`)
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			p.Line(`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + enginetest.Digest(i) + `"}`)
		}
	})
	return gate
}

// limit is how long a request of a test may take before it has failed.
const limit = apitest.Limit

// answer is a whole answer.
type answer struct{ apitest.Answer }

func (d *daemon) call(method, path, body string, header ...string) answer {
	d.T.Helper()
	return answer{d.Call(method, path, body, header...)}
}

// job takes a job out of an answer, which must have the status.
func (a answer) job(t *testing.T, status int) puller.Job {
	t.Helper()
	var j puller.Job
	a.Decode(t, status, "application/json", &j)
	return j
}

// problem takes a problem out of an answer, which must be one in form and of
// the kind.
func (a answer) problem(t *testing.T, status int, kind puller.ErrorKind) answers.Problem {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("the answer is %d, %s:\n%s", a.Status, got, a.Body)
	}
	var p answers.Problem
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		t.Fatalf("%v in:\n%s", err, a.Body)
	}
	if a.Status != status || p.Status != status || p.Kind != kind {
		t.Errorf("the answer is %d, want %d and %s:\n%s", a.Status, status, kind, a.Body)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Retryable != p.Kind.Retryable() {
		t.Errorf("the problem lacks something:\n%s", a.Body)
	}
	return p
}

// pull submits a pull of an image and returns the job.
func (d *daemon) pull(image string) puller.Job {
	d.T.Helper()
	return d.call("POST", "/v1/pulls", `{"image":"`+image+`"}`).job(d.T, http.StatusAccepted)
}

// ended waits for a job's end.
func (d *daemon) ended(id string) puller.Job {
	d.T.Helper()
	j, err := d.Service.Wait(d.T.Context(), id)
	if err != nil {
		d.T.Fatal(err)
	}
	return j
}

// told is an event as a reader gets it.
type told struct {
	puller.Event
	id, name string // SSE's own fields
	at       time.Time
	raw      string
}

// feed reads a stream of events.
type feed struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	sse   bool
	retry time.Duration // that the stream asks for
	close func()
}

const (
	ndjson = "application/x-ndjson"
	sse    = "text/event-stream"
)

// follow makes a request that is answered with events of the media type. The
// headers must be those of a stream.
func (d *daemon) follow(method, path, body, media string, header ...string) *feed {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), time.Hour)
	resp := d.Send(ctx, method, path, body, append(header, "Accept", media)...)
	f := &feed{t: d.T, resp: resp, lines: bufio.NewScanner(resp.Body), sse: media == sse}
	f.close = func() { cancel(); resp.Body.Close() }
	d.T.Cleanup(f.close)
	for name, want := range map[string]string{"Content-Type": media, "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := resp.Header.Get(name); resp.StatusCode != http.StatusOK || got != want {
			d.T.Errorf("the stream is %s with %s %q, want %q", resp.Status, name, got, want)
		}
	}
	return f
}

// next returns the next event, or false at the stream's end.
func (f *feed) next() (told, bool) {
	f.t.Helper()
	var e told
	data := ""
	for data == "" {
		if !f.lines.Scan() {
			if err := f.lines.Err(); err != nil {
				f.t.Errorf("the stream broke: %v", err)
			}
			return e, false // what has no data is no event
		}
		line := f.lines.Text()
		e.raw += line + "\n"
		switch name, value, _ := strings.Cut(line, ": "); {
		case !f.sse:
			data = line
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "retry":
			ms, _ := strconv.Atoi(value)
			f.retry = time.Duration(ms) * time.Millisecond
			f.lines.Scan()
		case name == "data":
			data = value
			f.lines.Scan()
			e.raw += f.lines.Text() + "\n"
			if f.lines.Text() != "" {
				f.t.Errorf("no empty line ends the frame:\n%s", e.raw)
			}
		default:
			f.t.Fatalf("an unexpected line: %q", line)
		}
	}
	e.at = time.Now()
	if err := json.Unmarshal([]byte(data), &e.Event); err != nil {
		f.t.Fatalf("%v in %s", err, data)
	}
	return e, true
}

// until reads to the first event that is wanted.
func (f *feed) until(wanted func(told) bool) []told {
	f.t.Helper()
	var all []told
	for {
		e, ok := f.next()
		if !ok {
			f.t.Fatalf("the stream ended before that event, after %d", len(all))
		}
		all = append(all, e)
		if wanted(e) {
			return all
		}
	}
}

// rest reads to the stream's end.
func (f *feed) rest() []told {
	f.t.Helper()
	var all []told
	for {
		e, ok := f.next()
		if !ok {
			return all
		}
		all = append(all, e)
	}
}

func downloading(e told) bool { return e.Type == "layer" && e.Layer.Phase.String() == "downloading" }

// checkComplete checks that events are those of a job to its good end.
func checkComplete(t *testing.T, events []told, id string) {
	t.Helper()
	for i, e := range events {
		last := i == len(events)-1
		if e.Job != id {
			t.Errorf("an event is not of job %s: %s", id, e.raw)
		}
		if (e.Type == "result") != last {
			t.Errorf("event %d of %d is a %s", i+1, len(events), e.Type)
		}
		if last && (e.Result == nil || e.Result.State != puller.StateSucceeded || e.Result.ID != id) {
			t.Errorf("the job's end is %s", e.raw)
		}
	}
}

func numbers(events []told) []uint64 {
	var all []uint64
	for _, e := range events {
		if e.Seq != 0 {
			all = append(all, e.Seq)
		}
	}
	return all
}

// headerFor is how the engine is shown a header for an image.
func headerFor(t *testing.T, header, image string) string {
	t.Helper()
	c, err := puller.ParseCredentials(header)
	if err != nil {
		t.Fatal(err)
	}
	return c.HeaderFor(image)
}

// newHandler returns an API that is compared with its contract.
func newHandler(t testing.TB, p puller.Service, o api.Options) http.Handler {
	t.Helper()
	return contracttest.Wrap(t, api.New(p, o))
}

// ofRequests compares requests with what only the daemon sets.
var ofRequests = cmp.Options{
	cmp.Exporter(func(of reflect.Type) bool { return of != reflect.TypeFor[puller.Credentials]() }),
	cmpopts.IgnoreUnexported(puller.Credentials{}),
}

// with returns a request with what only the daemon sets.
func with[R any](r R, set func(*R)) R {
	set(&r)
	return r
}
