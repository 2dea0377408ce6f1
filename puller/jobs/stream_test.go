package jobs_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestStream(t *testing.T) {
	t.Run("hostile", testStreamHostile)
	t.Run("odd", testStreamOdd)
	t.Run("memory bounded", testStreamMemoryBounded)
}

func testStreamHostile(t *testing.T) {
	for _, c := range []struct {
		name string
		says string
		kind puller.ErrorKind
	}{
		{"a line of 1 MiB and a byte", `{"status":"` + strings.Repeat("x", 1<<20-11) + `"}` + "\n", puller.ErrTruncated},
		{"a line of 1.5 MiB", `{"status":"` + strings.Repeat("x", 3<<19) + `"}` + "\n", puller.ErrTruncated},
		{"binary", "\x00\x01\x02\xff\xfe\n", puller.ErrTruncated},
		{"a gzip", "\x1f\x8b\x08\x00\x00\n", puller.ErrTruncated},
		{"deep nesting", `{"aux":` + strings.Repeat("[", 20_000) + "\n", puller.ErrTruncated},
		{"deep nesting that is closed", `{"aux":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}\n", puller.ErrTruncated},
		{"a count that is no number", `{"status":"Downloading","progressDetail":{"current":"x"},"id":"a"}` + "\n", puller.ErrTruncated},
		{"a count that no integer holds", `{"status":"Downloading","progressDetail":{"current":1e30},"id":"a"}` + "\n", puller.ErrTruncated},
		{"a number for a status", `{"status":17}` + "\n", puller.ErrTruncated},
		{"an error in invalid UTF-8", "{\"error\":\"\xff\xfe unauthorized\"}\n", puller.ErrDenied},
		{"an error of 40 KB", `{"error":"unauthorized ` + strings.Repeat("x", 40_000) + `"}` + "\n", puller.ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.engine.Script(good, func(p *enginetest.Pull) {
					p.Raw(c.says)
					served()(p)
				})
				v := d.failed(d.pullAlways(good), c.kind)
				if len(v.Error.Message) > 8<<10 {
					d.Errorf("the message has %d bytes", len(v.Error.Message))
				}
			})
		})
	}
}

func testStreamOdd(t *testing.T) {
	for name, says := range map[string]string{
		"a line of nearly 1 MiB":         `{"status":"` + strings.Repeat("x", 1<<20-100) + `"}`,
		"invalid UTF-8":                  "{\"status\":\"\xff\xfe\"}",
		"nested as deep as JSON may be":  `{"aux":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"empty lines":                    "\n\r\n\n",
		"fields that nobody knows":       `{"status":"x","new":{"a":[1]}}`,
		"objects that share a line":      `{"status":"x"}{"status":"y"}`,
		"negative counts":                line(layerA, "Downloading", -5, -10),
		"counts that no sum of two fits": line(layerA, "Downloading", math.MaxInt64-1, math.MaxInt64) + "\n" + line("cccccccccccc", "Downloading", math.MaxInt64-1, math.MaxInt64),
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.engine.Script(good, func(p *enginetest.Pull) {
					p.Line(says)
					p.Wait(2 * time.Second)
					served()(p)
				})
				j := d.pullAlways(good)
				v := d.succeeded(j, puller.SourcePulled)
				events := d.events(j)
				totals := []*puller.Job{&v}
				for _, e := range events {
					if e.Progress != nil {
						totals = append(totals, &puller.Job{Progress: e.Progress})
					}
				}
				for _, v := range totals {
					if p := v.Progress; p.Downloaded < 0 || p.Extracted < 0 || p.Total < 0 || p.Rate < 0 || p.ETASeconds != nil && *p.ETASeconds < 0 {
						d.Errorf("the progress is %+v", p)
					}
				}
			})
		})
	}
}

func testStreamMemoryBounded(t *testing.T) {
	withDaemonOf(t, once, nil, func(d *daemon) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d.engine.Script(good, func(p *enginetest.Pull) {
			filler := strings.Repeat("y", 4000)
			for i := range 1200 {
				p.Line(line(fmt.Sprintf("layer%d", i), "Pulling fs layer"))
				p.Line(line(fmt.Sprintf("%d%s", i, filler), "Pulling fs layer"))
				p.Line(fmt.Sprintf(`{"status":"WARNING %d %s"}`, i, filler))
			}
			p.Fail("unauthorized")
		})
		j := d.pullAlways(good)
		v := d.failed(j, puller.ErrDenied)
		if v.Progress.Layers > 1000 {
			d.Errorf("%d layers are kept", v.Progress.Layers)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 5<<20 {
			d.Errorf("%d MiB are kept", grown>>20)
		}
		kept := 0
		for _, notice := range notices(d.events(j)) {
			kept += len(notice)
		}
		if kept > 1<<20 {
			d.Errorf("%d bytes of notices are kept", kept)
		}
	})
}
