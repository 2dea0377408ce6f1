package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// patience is how long a test waits for what must come. It is no measure of
// anything: a test that passes never waits that long.
const patience = 90 * time.Second

// rig is one test's registry and daemon, before an engine. At the end of the
// test it sees to it that nothing is left under way.
type rig struct {
	*testing.T
	engine   *lab.Engine
	registry *lab.Registry
	towline  *lab.Towline
	client   *client.Client
	dir      string
	opts     lab.TowlineOptions
	before   load
	watchers map[string]*watcher // by job
	// idle is how many connections to the engine and the registry the daemon may
	// keep for later, each with two goroutines and a descriptor.
	idle int
}

// load is what a daemon has open.
type load struct{ goroutines, fds int }

// newRig has a daemon with these settings drive the shared engine.
func newRig(t *testing.T, config string) *rig {
	t.Helper()
	lab.Need(t, site.err)
	return newRigOn(t, site.engine, lab.TowlineOptions{Config: config})
}

// newFragileRig is newRig with an engine that may be hurt, for this test alone.
func newFragileRig(t *testing.T, opts lab.TowlineOptions, prepare func(*lab.Engine) error) *rig {
	t.Helper()
	lab.Need(t, site.err)
	engine := <-site.fragile
	t.Cleanup(func() {
		ctx, cancel := within()
		defer cancel()
		engine.Resume() // an error says that it does not run
		if !answers(engine) {
			if err := errors.Join(engine.Kill(), engine.Start(ctx)); err != nil {
				t.Errorf("the engine is not as it was: %v", err)
			}
		}
		site.fragile <- engine
	})
	if prepare != nil {
		if err := prepare(engine); err != nil {
			t.Fatal(err)
		}
	}
	return newRigOn(t, engine, opts)
}

// answers tells whether an engine is there to be cleaned up.
func answers(engine *lab.Engine) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return engine.Ping(ctx) == nil
}

func newRigOn(t *testing.T, engine *lab.Engine, opts lab.TowlineOptions) *rig {
	t.Helper()
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	return newRigIn(t, engine, dir, opts)
}

// newRigIn has the daemon keep what it has in a directory, its state in dir/state.
func newRigIn(t *testing.T, engine *lab.Engine, dir string, opts lab.TowlineOptions) *rig {
	t.Helper()
	r := &rig{T: t, engine: engine, dir: dir, opts: opts, idle: 2, watchers: map[string]*watcher{}}
	r.opts.EngineHost = engine.Host
	var err error
	if r.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.registry.Close(); err != nil {
			t.Error(err)
		}
	})
	r.start()
	t.Cleanup(func() {
		if !t.Failed() {
			r.settled()
		}
		r.client.Close()
		if err := r.towline.Stop(); err != nil {
			t.Errorf("the daemon did not end well: %v", err)
		}
		if log := r.towline.Log(); t.Failed() || strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
			t.Errorf("the daemon's log:\n%s", log)
		}
	})
	return r
}

// start starts the daemon, also again after its end.
func (r *rig) start() {
	r.Helper()
	if r.client != nil {
		r.client.Close()
	}
	ctx, cancel := within()
	defer cancel()
	towline, err := lab.StartTowline(ctx, site.bin, r.dir, r.opts)
	if err != nil {
		r.Fatal(err)
	}
	r.towline = towline
	if r.client, err = client.New(r.towline.Host, ""); err != nil {
		r.Fatal(err)
	}
	if r.before, err = r.load(ctx); err != nil {
		r.Fatal(err)
	}
}

// within is the time for one thing to come about, also in a test's cleanup.
func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// until waits until ok answers nil.
func (r *rig) until(what string, ok func(context.Context) error) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	if err := lab.Poll(ctx, 25*time.Millisecond, ok); err != nil {
		r.Fatalf("waiting until %s: %v\n%s", what, err, r.towline.Log())
	}
}

// load asks the daemon what it has open.
func (r *rig) load(ctx context.Context) (load, error) {
	m, err := r.metrics(ctx)
	return load{m["go_goroutines"], m["process_open_fds"]}, err
}

func (r *rig) metrics(ctx context.Context) (map[string]int, error) {
	resp, err := r.towline.Do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	all := map[string]int{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = int(v)
		}
	}
	return all, lines.Err()
}

// settled waits until nothing is under way, and the daemon has no more open
// than at its start.
func (r *rig) settled() {
	r.Helper()
	r.client.Close()
	r.until("nothing is left", func(ctx context.Context) error {
		if err := r.idles(ctx); err != nil {
			return err
		}
		r.client.Close()
		if n := r.registry.Blobs(); n > 0 {
			return fmt.Errorf("%d blobs are being sent", n)
		}
		m, err := r.metrics(ctx)
		if err != nil {
			return err
		}
		if m["towline_jobs_unended"] != 0 || m["towline_transfers_running"] != 0 {
			return fmt.Errorf("%d jobs have not ended, %d transfers run", m["towline_jobs_unended"], m["towline_transfers_running"])
		}
		now := load{m["go_goroutines"], m["process_open_fds"]}
		if now.goroutines > r.before.goroutines+2*r.idle+4 || now.fds > r.before.fds+r.idle+2 {
			return fmt.Errorf("the daemon has %+v, at its start %+v", now, r.before)
		}
		return nil
	})
}

// idles returns an error that names jobs which have not ended.
func (r *rig) idles(ctx context.Context) error {
	for _, state := range []puller.State{puller.StateQueued, puller.StateActive} {
		if jobs, _, err := r.client.Jobs(ctx, puller.Filter{State: state}); err != nil || len(jobs) > 0 {
			return fmt.Errorf("jobs are %s: %+v %v", state, jobs, err)
		}
	}
	return nil
}

// pushed is an image in the rig's registry.
type pushed struct{ repo, ref, digest, id string }

var seeds atomic.Int64

// push puts a new image into the registry.
func (r *rig) push(repo string, layers int, layerBytes int64) pushed {
	r.Helper()
	return r.pushTags(repo, layers, layerBytes, "v1")[0]
}

// pushTags is push under some tags.
func (r *rig) pushTags(repo string, layers int, layerBytes int64, tags ...string) (all []pushed) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	image, err := lab.RandomImage(seeds.Add(1), layers, layerBytes, "linux/amd64")
	if err != nil {
		r.Fatal(err)
	}
	id, err := image.ConfigName()
	if err != nil {
		r.Fatal(err)
	}
	for _, tag := range tags {
		digest, err := r.registry.Push(ctx, repo, tag, image)
		if err != nil {
			r.Fatal(err)
		}
		all = append(all, pushed{repo, r.registry.Ref(repo, tag), digest, id.String()})
	}
	r.Cleanup(func() {
		ctx, cancel := within()
		defer cancel()
		if answers(r.engine) { // else the test did not get far, or wants it so
			for _, p := range all {
				r.engine.RemoveImage(ctx, p.ref)
			}
		}
	})
	return all
}

// submit hands in a job that wants so many attempts after the first.
func (r *rig) submit(ref string, retries int) puller.Job {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	job, err := r.client.Submit(ctx, client.PullRequest{Image: ref, Retries: &retries})
	if err != nil {
		r.Fatal(err)
	}
	return job
}

// job returns a job as it stands.
func (r *rig) job(id string) puller.Job {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	job, err := r.client.Job(ctx, id)
	if err != nil {
		r.Fatal(err)
	}
	return job
}

// pulling waits until bytes of the job's image have come, and more are to come.
func (r *rig) pulling(id string) {
	r.Helper()
	r.until("the image is being pulled", func(ctx context.Context) error {
		job, err := r.client.Job(ctx, id)
		switch {
		case err != nil:
			return err
		case job.Phase != puller.PhasePulling || job.Progress == nil || job.Progress.Downloaded == 0:
			return fmt.Errorf("it is %s %s: %+v", job.State, job.Phase, job.Progress)
		}
		return nil
	})
}

// noticed waits until the job has been told something with this in it.
func (r *rig) noticed(id, text string) {
	r.Helper()
	w := r.watch(id)
	r.until("a notice says "+text, func(context.Context) error {
		all := w.told()
		if !slices.ContainsFunc(all, func(e puller.Event) bool { return strings.Contains(e.Message, text) }) {
			return fmt.Errorf("the record is %+v", all)
		}
		return nil
	})
}

// notices are what a job that has ended had been told.
func (r *rig) notices(id string) []puller.Event {
	r.Helper()
	w := r.watch(id)
	<-w.done
	return slices.DeleteFunc(w.told(), func(e puller.Event) bool { return e.Type != "notice" })
}

// watcher keeps a job's record, from its beginning.
type watcher struct {
	done chan struct{}
	mu   sync.Mutex
	all  []puller.Event
}

func (w *watcher) told() []puller.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func (r *rig) watch(id string) *watcher {
	r.Helper()
	if w := r.watchers[id]; w != nil {
		return w
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.Cleanup(cancel)
	resp, err := r.towline.Do(ctx, http.MethodGet, "/v1/jobs/"+id+"/events?since=0", nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	w := &watcher{done: make(chan struct{})}
	r.watchers[id] = w
	go func() {
		defer close(w.done)
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); ; {
			var e puller.Event
			if d.Decode(&e) != nil {
				return
			}
			if e.Seq > 0 {
				w.mu.Lock()
				w.all = append(w.all, e)
				w.mu.Unlock()
			}
		}
	}()
	return w
}

// ended waits for the job's end.
func (r *rig) ended(id string) puller.Job {
	r.Helper()
	var job puller.Job
	r.until("the job has ended", func(ctx context.Context) (err error) {
		if job, err = r.client.Job(ctx, id); err == nil && !job.State.Ended() {
			err = fmt.Errorf("it is %s %s, attempt %d", job.State, job.Phase, job.Attempt)
		}
		return err
	})
	return job
}

// succeeds waits until the job has, and sees whether it is true.
func (r *rig) succeeds(id string, image pushed) puller.Job {
	r.Helper()
	job := r.ended(id)
	if job.State != puller.StateSucceeded {
		r.Fatalf("the job is %s in attempt %d: %+v", job.State, job.Attempt, job.Error)
	}
	r.holds(job, image)
	return job
}

// holds checks that what a job says it brought is on the engine.
func (r *rig) holds(job puller.Job, image pushed) {
	r.Helper()
	id, digests := r.inspect(image.ref)
	carried := slices.ContainsFunc(digests, func(d string) bool { return strings.HasSuffix(d, "@"+image.digest) })
	if job.Result == nil || job.Result.Digest != image.digest || id == "" || job.Result.ImageID != id || !carried && id != image.digest {
		r.Errorf("a false success: %+v, but the engine has %q %v, and %s was pushed", job.Result, id, digests, image.digest)
	}
}

// inspect returns what the engine has under a name, "" for nothing.
func (r *rig) inspect(ref string) (id string, digests []string) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	resp, err := r.engine.Do(ctx, http.MethodGet, "/images/"+(&url.URL{Path: ref}).EscapedPath()+"/json", nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	var found struct {
		ID          string `json:"Id"`
		RepoDigests []string
	}
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil {
		r.Fatal(err)
	}
	return found.ID, found.RepoDigests
}

// fails waits until the job has failed with the kind, and checks that the
// engine has no image of that name.
func (r *rig) fails(id string, kind puller.ErrorKind, image pushed) puller.Job {
	r.Helper()
	job := r.ended(id)
	r.failed(job, kind)
	if there, _ := r.inspect(image.ref); there != "" {
		r.Errorf("the job failed, and the image is there: %+v", job.Error)
	}
	return job
}

func (r *rig) failed(job puller.Job, kind puller.ErrorKind) {
	r.Helper()
	if job.State != puller.StateFailed || job.Error == nil || job.Error.Kind != kind || job.Error.Message == "" || job.Result != nil {
		r.Fatalf("the job is %s: %+v %+v, not failed as %s", job.State, job.Error, job.Result, kind)
	}
}

// sent waits until the registry sends no blob any more: the engine has let go.
func (r *rig) sent() {
	r.Helper()
	r.until("the registry sends no blob", func(context.Context) error {
		if n := r.registry.Blobs(); n > 0 {
			return fmt.Errorf("%d are being sent", n)
		}
		return nil
	})
}

// problem is an answer that is an error.
type problem struct {
	Status int
	Kind   puller.ErrorKind
	Detail string
}

// wait posts a pull and waits for its end, as curl in a CI job does.
func (r *rig) wait(ref string, retries int) (status int, p problem) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	body := fmt.Sprintf(`{"image":%q,"retries":%d}`, ref, retries)
	resp, err := r.towline.Do(ctx, http.MethodPost, "/v1/pulls?wait=true", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		r.Fatalf("%s: %v: %s", resp.Status, err, raw)
	}
	return resp.StatusCode, p
}

// refused checks that a pull ends with the status and kind, also for curl and
// for the command line's exit code.
func (r *rig) refused(ref string, retries int, kind puller.ErrorKind, status, code int) {
	r.Helper()
	if got, p := r.wait(ref, retries); got != status || p.Status != status || p.Kind != kind || p.Detail == "" {
		r.Errorf("%d %+v, not %d %s", got, p, status, kind)
	}
	if got, said := r.run("pull", "--retries", strconv.Itoa(retries), ref); got != code || !strings.Contains(said, string(kind)) {
		r.Errorf("exit code %d, not %d: %s", got, code, said)
	}
	if there, _ := r.engine.ImageID(context.Background(), ref); there != "" {
		r.Errorf("%s is there", ref)
	}
}

// run is the command line.
func (r *rig) run(args ...string) (code int, said string) {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, site.bin, append([]string{"--host", r.towline.Host}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// ready is the status of /readyz.
func (r *rig) ready() int {
	r.Helper()
	ctx, cancel := within()
	defer cancel()
	resp, err := r.towline.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// hold has every blob stop after so many bytes. It lets go at the end at the
// latest: dockerd 20.10 keeps a connection that nothing comes from.
func (r *rig) hold(after int64) (release func()) {
	release = r.registry.Hold(after)
	r.Cleanup(release)
	return release
}
