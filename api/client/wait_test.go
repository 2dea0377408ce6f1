package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, engine := daemon(t)
		cut := &cutting{next: h, budgets: []int{0, 200}}
		c := serve(t, cut)
		gate := make(chan struct{})
		engine.Script("slow", func(p *enginetest.Pull) {
			if p.Until(gate) {
				enginetest.Serve(enginetest.NewImage("slow", 1))(p)
			}
		})
		engine.Script("lost", func(p *enginetest.Pull) { p.Fail("manifest unknown") })

		slow, err := c.Submit(t.Context(), client.PullRequest{Image: "slow"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if job, err := c.Wait(ctx, slow.ID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a job that goes on is %+v, %v", job, err)
		}
		time.AfterFunc(time.Minute, func() { close(gate) })
		if job, err := c.Wait(t.Context(), slow.ID); err != nil || job.ID != slow.ID || job.State != puller.StateSucceeded || job.Result == nil {
			t.Errorf("a job that succeeds is %+v, %v", job, err)
		}
		for _, query := range cut.asked {
			if !strings.HasSuffix(query, "&every=1m") {
				t.Errorf("the events were asked for with %s", query)
			}
		}
		if len(cut.asked) < 4 {
			t.Errorf("two cuts, and asked with %q", cut.asked)
		}
		lost, err := c.Submit(t.Context(), client.PullRequest{Image: "lost"})
		if err != nil {
			t.Fatal(err)
		}
		job, err := c.Wait(t.Context(), lost.ID)
		if puller.KindOf(err) != puller.ErrNotFound || !strings.Contains(err.Error(), "manifest unknown") || job.State != puller.StateFailed {
			t.Errorf("a job that fails is %+v, %v", job, err)
		}
		if _, err := c.Wait(t.Context(), "01M8HG4T8Z0YZH5FPKQFF8HVJR"); puller.KindOf(err) != puller.ErrNotFound {
			t.Errorf("no job is %v", err)
		}
	})
}
