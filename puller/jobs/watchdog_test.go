package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// watched has a limit of its own for each kind of silence, and no retries.
var watched = jobs.Options{
	Concurrency: 4, Policy: puller.PolicyMissing, Timeout: 24 * time.Hour,
	FirstByteTimeout: 40 * time.Second, StallTimeout: time.Minute, ExtractStallTimeout: 10 * time.Minute,
}

// line is a message about a layer; counts are its current and total.
func line(layer, status string, counts ...int64) string {
	detail := ""
	if len(counts) == 2 {
		detail = fmt.Sprintf(`"current":%d,"total":%d`, counts[0], counts[1])
	}
	return fmt.Sprintf(`{"status":%q,"progressDetail":{%s},"id":%q}`, status, detail, layer)
}

const (
	layerA = "aaaaaaaaaaaa"
	layerB = "bbbbbbbbbbbb"
)

func silence(p *enginetest.Pull) { <-p.Gone() }

// for ever, until the client has gone.
func every(p *enginetest.Pull, d time.Duration, do func(i int)) {
	for i := 1; p.Wait(d); i++ {
		do(i)
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	t.Run("exact limit", testWatchdogExactLimit)
	t.Run("progress", testWatchdogProgress)
	t.Run("without limits", testWatchdogWithoutLimits)
	t.Run("engine queues", testWatchdogEngineQueues)
}

func testWatchdogExactLimit(t *testing.T) {
	for _, c := range []struct {
		name   string
		script enginetest.Script
		after  time.Duration
	}{
		{"a download that falls silent", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			silence(p)
		}, time.Minute},
		{"a download that falls silent after a while", func(p *enginetest.Pull) {
			for i := range 5 {
				p.Line(line(layerA, "Downloading", int64(i), 1000))
				p.Wait(30 * time.Second)
			}
			silence(p)
		}, 3 * time.Minute},
		{"one line said again every 100 ms for ever", func(p *enginetest.Pull) {
			every(p, 100*time.Millisecond, func(int) { p.Line(line(layerA, "Downloading", 300, 1000)) })
		}, 100*time.Millisecond + time.Minute},
		{"two layers said in turn for ever", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			p.Line(line(layerB, "Downloading", 200, 1000))
			every(p, 100*time.Millisecond, func(int) {
				p.Line(line(layerA, "Downloading", 300, 1000))
				p.Line(line(layerB, "Downloading", 200, 1000))
			})
		}, time.Minute},
		{"only talk", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 300, 1000))
			every(p, time.Second, func(i int) { p.Line(warning(i)) })
		}, time.Minute},
		{"nothing but the tag", func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling from good","id":"v1"}`)
			silence(p)
		}, time.Minute},
		{"no first message", silence, 40 * time.Second},
		{"no first message, though the answer has begun", func(p *enginetest.Pull) { p.Raw(""); silence(p) }, 40 * time.Second},
		{"no end after all is done", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Already exists"))
			silence(p)
		}, time.Minute},
		{"one layer is there, another never comes", func(p *enginetest.Pull) {
			p.Line(line(layerB, "Pulling fs layer"))
			p.Line(line(layerA, "Download complete"))
			silence(p)
		}, time.Minute},
		{"a silent extraction", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Download complete"))
			p.Line(line(layerA, "Extracting", 10, 1000))
			silence(p)
		}, 10 * time.Minute},
		{"an extraction that counts the seconds", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Download complete"))
			every(p, time.Second, func(i int) {
				p.Line(fmt.Sprintf(`{"status":"Extracting","progressDetail":{"current":%d,"units":"s"},"id":%q}`, i, layerA))
			})
		}, time.Second + 10*time.Minute},
		{"all downloaded, and nothing said of it, as by Podman", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Download complete"))
			p.Line(line(layerB, "Download complete"))
			silence(p)
		}, 10 * time.Minute},
		{"an extraction beside a download, named before it", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Extracting", 10, 1000))
			p.Line(line(layerB, "Downloading", 10, 1000))
			silence(p)
		}, 10 * time.Minute},
		{"an extraction beside a download, named after it", func(p *enginetest.Pull) {
			p.Line(line(layerB, "Downloading", 10, 1000))
			p.Line(line(layerA, "Extracting", 10, 1000))
			silence(p)
		}, 10 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, watched, nil, func(d *daemon) {
				d.engine.Script(good, c.script)
				v := d.failed(d.pullAlways(good), puller.ErrStalled)
				if took := v.FinishedAt.Sub(v.CreatedAt); took != c.after {
					d.Errorf("it ended after %s, not %s: %s", took, c.after, v.Error.Message)
				}
				if !strings.Contains(v.Error.Message, good) {
					d.Errorf("the message is %q", v.Error.Message)
				}
				d.wantAborted(1)
			})
		})
	}
}

func testWatchdogProgress(t *testing.T) {
	for _, c := range []struct {
		name   string
		script enginetest.Script
	}{
		{"a byte every 59 s", func(p *enginetest.Pull) {
			for i := range 100 {
				p.Line(line(layerA, "Downloading", int64(i), 1000))
				p.Wait(59 * time.Second)
			}
		}},
		{"layers that take turns", func(p *enginetest.Pull) {
			for i := range 50 {
				p.Line(line(layerA, "Downloading", int64(i), 1000))
				p.Wait(40 * time.Second)
				p.Line(line(layerB, "Downloading", int64(i), 1000))
				p.Wait(40 * time.Second)
			}
		}},
		{"a download that begins again from 0", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 900, 1000))
			for range 3 {
				p.Line(line(layerA, "Retrying in 1 second"))
				p.Wait(time.Second)
				for i := range 20 {
					p.Line(line(layerA, "Downloading", int64(i*40), 1000))
					p.Wait(25 * time.Second)
				}
			}
		}},
		{"an extraction that is silent for long", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Download complete"))
			p.Line(line(layerA, "Extracting", 10, 1000))
			p.Wait(10*time.Minute - time.Second)
			p.Line(line(layerA, "Extracting", 20, 1000))
			p.Wait(10*time.Minute - time.Second)
		}},
		{"a layer after the other, extracted for 9 minutes each, by seconds", func(p *enginetest.Pull) {
			for _, layer := range []string{layerA, layerB} {
				p.Line(line(layer, "Download complete"))
			}
			for _, layer := range []string{layerA, layerB} {
				for i := range 9 * 60 {
					p.Line(fmt.Sprintf(`{"status":"Extracting","progressDetail":{"current":%d,"units":"s"},"id":%q}`, i, layer))
					p.Wait(time.Second)
				}
				p.Line(line(layer, "Pull complete"))
			}
		}},
		{"all downloaded, and 9 minutes of silence, as by Podman", func(p *enginetest.Pull) {
			p.Line(line(layerA, "Download complete"))
			p.Wait(9 * time.Minute)
		}},
		{"a first message after 39 s", func(p *enginetest.Pull) { p.Wait(39 * time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, watched, nil, func(d *daemon) {
				served := enginetest.Serve(enginetest.NewImage(good, 1))
				d.engine.Script(good, func(p *enginetest.Pull) { c.script(p); served(p) })
				d.succeeded(d.pullAlways(good), puller.SourcePulled)
				d.wantAborted(0)
			})
		})
	}
}

func testWatchdogWithoutLimits(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.engine.Script(good, silence)
		v := d.failed(d.pullAlways(good), puller.ErrTimeout)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != 30*time.Minute {
			d.Errorf("it ended after %s", took)
		}
	})
}

// The engine works on a few layers at a time, for all its pulls: one that
// waits for its turn does not stand still as long as another one gets on.
func testWatchdogEngineQueues(t *testing.T) {
	alert := once
	alert.StallTimeout, alert.ExtractStallTimeout = time.Minute, time.Minute
	withDaemonOf(t, alert, nil, func(d *daemon) {
		busy, waits := 10*alert.StallTimeout, 8*alert.StallTimeout
		d.engine.Script(other, func(p *enginetest.Pull) {
			for n := range int(busy / time.Second) {
				p.Line(line(layerA, "Downloading", int64(n+1), 1_000_000))
				p.Wait(time.Second)
			}
			served()(p)
		})
		image := enginetest.NewImage(good, 1)
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(line(layerB, "Pulling fs layer"))
			p.Line(line(layerB, "Waiting"))
			p.Wait(waits)
			enginetest.Serve(image)(p)
		})
		d.pullAlways(other)
		d.succeeded(d.pullAlways(good), puller.SourcePulled)

		// With nobody else at work it is the same as ever.
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(line(layerB, "Waiting"))
			<-p.Gone()
		})
		<-time.After(busy)
		d.failed(d.pullAlways(good), puller.ErrStalled)
	})
}
