package jobs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// Tests run side by side, but for those that count goroutines or memory of the process.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is a Service over the real adapter over a scripted engine, in a bubble
// of its own time.
type daemon struct {
	*jobs.Service
	*testing.T
	open   func() // starts a Service on the store
	engine *enginetest.Engine
	store  *storetest.Store
	log    *strings.Builder    // complete once the Service is closed
	change func(*jobs.Options) // for the next starts; nil for none

	mu      sync.Mutex
	readers map[string]*reader // by job, since the last start
}

var defaults = jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Retries: 3, Timeout: 30 * time.Minute}

// once is defaults for tests of what one attempt does.
var once = jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Timeout: 30 * time.Minute}

// withDaemon runs a test in a bubble. Engine and Service end with it.
func withDaemon(t *testing.T, test func(d *daemon)) {
	t.Helper()
	withDaemonOf(t, defaults, nil, test)
}

// withDaemonOf is withDaemon with options, and a way to wrap the engine.
func withDaemonOf(t *testing.T, o jobs.Options, wrap func(engines.Engine) engines.Engine, test func(d *daemon)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		scripted := enginetest.New(t)
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapter.Close() })
		var log strings.Builder
		logger := logrus.New()
		logger.SetOutput(&log)
		o.Log = logger
		var engine engines.Engine = adapter
		if wrap != nil {
			engine = wrap(adapter)
		}
		d := &daemon{T: t, engine: scripted, store: storetest.New(), log: &log}
		output := t.TempDir()
		d.open = func() {
			o.Store, o.OutputDir, o.OutputLimit = d.store, output, 1<<20
			if d.change != nil {
				d.change(&o)
			}
			p, err := jobs.New(engine, o)
			if err != nil {
				t.Fatal(err)
			}
			d.Service, d.readers = p, make(map[string]*reader)
		}
		d.open()
		t.Cleanup(d.close)
		test(d)
	})
}

func (d *daemon) close() {
	d.Helper()
	if err := d.Close(context.Background()); err != nil {
		d.Error(err)
	}
}

// restart has the daemon stop well and start again.
func (d *daemon) restart() {
	d.Helper()
	d.close()
	d.open()
}

// crash has the daemon end with nothing kept but what was on disk.
func (d *daemon) crash() {
	d.Helper()
	kept := d.store.Reopen()
	d.close()
	d.store = kept
	d.open()
}

// Images of the tests. good is served unless a test says otherwise.
const (
	good  = "registry.test/good:v1"
	other = "registry.test/other:v1"
)

func (d *daemon) serve(image string) puller.Image {
	i := enginetest.NewImage(image, 1)
	d.engine.Script(image, enginetest.Serve(i))
	return i
}

// hold makes pulls of an image wait, after a layer is under way, until the
// function it returns is called; then they are served.
func (d *daemon) hold(image string) (release func()) {
	gate := make(chan struct{})
	i := enginetest.NewImage(image, 1)
	d.engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.Line(`{"status":"Downloading","progressDetail":{"current":300,"total":1000},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			enginetest.Serve(i)(p)
		}
	})
	return func() { close(gate) }
}

func (d *daemon) submit(r puller.PullRequest) puller.Job {
	d.Helper()
	j, err := d.Pull(r)
	if err != nil {
		d.Fatal(err)
	}
	d.follow(j)
	return j
}

// reader is a reader of a job since its submission.
type reader struct {
	lines []string
	sub   *stream.Subscription
}

func (d *daemon) follow(j puller.Job) *reader {
	d.Helper()
	begin := uint64(0)
	frames, sub, err := d.Watch(j.ID, &begin)
	if err != nil {
		d.Fatal(err)
	}
	r := &reader{sub: sub}
	r.take(frames, j.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers[j.ID] = r
	return r
}

func (r *reader) take(frames []stream.Frame, job string) {
	for _, f := range frames {
		r.lines = append(r.lines, string(stream.NDJSON.Append(nil, &f, job)))
	}
}

// pullAlways submits a job that asks the registry in any case.
func (d *daemon) pullAlways(image string) puller.Job {
	d.Helper()
	return d.submit(puller.PullRequest{Image: image, Policy: puller.PolicyAlways})
}

// end waits for a job.
func (d *daemon) end(j puller.Job) puller.Job {
	d.Helper()
	ended, err := d.Wait(d.Context(), j.ID)
	if err != nil {
		d.Fatal(err)
	}
	return ended
}

// settled returns a job as it stands once nothing moves.
func (d *daemon) settled(j puller.Job) puller.Job {
	d.Helper()
	synctest.Wait()
	v, err := d.Job(j.ID)
	if err != nil {
		d.Fatal(err)
	}
	return v
}

// inState checks where a job is once nothing moves.
func (d *daemon) inState(j puller.Job, state puller.State, phase puller.Phase) {
	d.Helper()
	if v := d.settled(j); v.State != state || v.Phase != phase {
		d.Fatalf("the job for %s is %s/%s, not %s/%s (%+v)", v.Image, v.State, v.Phase, state, phase, v.Error)
	}
}

// succeeded waits for a job that must succeed, and checks where its image is from.
func (d *daemon) succeeded(j puller.Job, source puller.Source) puller.Job {
	d.Helper()
	v := d.end(j)
	if v.State != puller.StateSucceeded {
		d.Fatalf("the job is %s: %+v", v.State, v.Error)
	}
	if v.Result.Source != source {
		d.Fatalf("the image is %s, not %s", v.Result.Source, source)
	}
	return v
}

// failed waits for a job that is to end with an error of a kind.
func (d *daemon) failed(j puller.Job, kind puller.ErrorKind) puller.Job {
	d.Helper()
	v := d.end(j)
	want := puller.StateFailed
	if kind == puller.ErrCanceled {
		want = puller.StateCanceled
	}
	if v.State != want || v.Error == nil || v.Error.Kind != kind || v.Result != nil && !v.Result.Interrupted {
		d.Fatalf("the job is %s with %+v, not %s with %s", v.State, v.Error, want, kind)
	}
	if v.Error.Message == "" || v.Error.Retryable != kind.Retryable() || v.FinishedAt.IsZero() {
		d.Fatalf("the ended job lacks something: %+v, finished %s", v.Error, v.FinishedAt)
	}
	return v
}

// wantPulls checks how many pulls the engine has begun once nothing moves.
func (d *daemon) wantPulls(n int) {
	d.Helper()
	synctest.Wait()
	if got := d.engine.Counts().Pulls; got != n {
		d.Fatalf("the engine has begun %d pulls, not %d", got, n)
	}
}

// wantAborted checks the same of the pulls whose client went away.
func (d *daemon) wantAborted(n int) {
	d.Helper()
	synctest.Wait()
	if c := d.engine.Counts(); c.Aborted != n || c.Active != 0 {
		d.Fatalf("%d of the engine's pulls were aborted, not %d; %d go on", c.Aborted, n, c.Active)
	}
}

// lines reads the events of a job to its end. If the job was submitted by submit, the
// reader has been there from the beginning.
func (d *daemon) lines(j puller.Job) []string {
	d.Helper()
	d.mu.Lock()
	r := d.readers[j.ID]
	d.mu.Unlock()
	if r == nil {
		r = d.follow(j)
	}
	for {
		frames, err := next(d.Context(), r.sub, time.Hour)
		if errors.Is(err, io.EOF) {
			return r.lines
		}
		if err != nil {
			d.Fatal(err)
		}
		r.take(frames, j.ID)
	}
}

// events is lines, read, and with the test that numbers grow.
func (d *daemon) events(j puller.Job) []puller.Event {
	d.Helper()
	var all []puller.Event
	last := uint64(0)
	for _, line := range d.lines(j) {
		var e puller.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			d.Fatalf("%v: %s", err, line)
		}
		if e.Job != j.ID || e.Time.IsZero() {
			d.Errorf("an event lacks its job or time: %s", line)
		}
		if e.Seq != 0 {
			if e.Seq <= last {
				d.Errorf("the event after %d is number %d", last, e.Seq)
			}
			last = e.Seq
		}
		all = append(all, e)
	}
	return all
}

// numbered leaves an event's place and state: "state active/pulling".
func numbered(events []puller.Event) []string {
	var short []string
	for _, e := range events {
		if e.Seq == 0 {
			continue
		}
		s := e.Type
		if e.State != "" {
			s += " " + string(e.State)
		}
		if e.Phase != "" {
			s += "/" + string(e.Phase)
		}
		short = append(short, s)
	}
	return short
}

func credentials(t testing.TB, password string) puller.Credentials {
	t.Helper()
	c, err := puller.ParseCredentials(encode(`{"username":"ada","password":"` + password + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(json string) string { return base64.URLEncoding.EncodeToString([]byte(json)) }

// lateEngine ends no pull that was cancelled before its gate is opened.
type lateEngine struct {
	engines.Engine
	gate chan struct{} // made in the bubble
}

func (e *lateEngine) Pull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	err := e.Engine.Pull(ctx, p, each)
	if ctx.Err() != nil {
		<-e.gate
	}
	return err
}

func warning(i int) string { return fmt.Sprintf(`{"status":"WARNING: number %d"}`, i) }

// next is Subscription.Next, but returns frames.
func next(ctx context.Context, s *stream.Subscription, wait time.Duration) ([]stream.Frame, error) {
	b, err := s.Next(ctx, wait)
	if b == nil {
		return nil, err
	}
	return b.Frames(), err
}

// with returns a request with what only the daemon sets.
func with[R any](r R, set func(*R)) R {
	set(&r)
	return r
}
