package dockerapi_test

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(contracttest.Main{M: m, Docker: true}) }

// daemon is Towline's API over a scripted engine.
type daemon struct{ *apitest.Daemon }

// start serves the API over TCP.
func start(t *testing.T) *daemon {
	t.Helper()
	return &daemon{apitest.Start(t)}
}

// startInMemory serves the API without sockets, for tests in a synctest bubble.
func startInMemory(t *testing.T, retries int) *daemon {
	t.Helper()
	return &daemon{apitest.StartInMemory(t, func(o *jobs.Options) { o.Retries = retries })}
}

// jobs returns all jobs, oldest first.
func (d *daemon) jobs() []puller.Job {
	d.T.Helper()
	page, _, err := d.Service.Jobs(puller.Filter{})
	if err != nil {
		d.T.Fatal(err)
	}
	slices.Reverse(page)
	return page
}

// serve makes the engine serve an image.
func (d *daemon) serve(image string) puller.Image {
	i := enginetest.NewImage(image, 1)
	d.Engine.Script(image, enginetest.Serve(i))
	return i
}

// hold makes the engine stop in the middle of a pull until the gate is closed. Then
// the pull succeeds.
func (d *daemon) hold(image string) (gate chan struct{}) {
	gate = make(chan struct{})
	i := enginetest.NewImage(image, 7)
	d.Engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			p.Line(`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + enginetest.Digest(i) + `"}`)
		}
	})
	return gate
}

// checkMessage checks an error in Docker's form.
func checkMessage(t *testing.T, a apitest.Answer, status int, words string) {
	t.Helper()
	var body map[string]string
	a.Decode(t, status, "application/json", &body)
	if len(body) != 1 || !strings.Contains(body["message"], words) {
		t.Errorf("the message is %s, and should have %q", a.Body, words)
	}
	if a.Header.Get("Api-Version") == "" {
		t.Error("the answer has no Api-Version")
	}
}
