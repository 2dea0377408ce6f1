package bolt_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/storetest"
)

// TestOlderFile reads a file that an older build has left.
func TestOlderFile(t *testing.T) {
	b := newBox(t)
	ended, unended := make(map[string]string), []string(nil)
	for _, a := range storetest.WriteOlder(t, b.dir) {
		var j puller.Job
		if err := json.Unmarshal(a.Job, &j); err != nil {
			t.Fatal(err)
		}
		if j.State.Ended() {
			ended[j.ID] = marshal(t, j)
		} else {
			unended = append(unended, j.ID)
		}
	}
	s := b.open()

	seq, loaded, err := s.Load()
	if err != nil || seq == 0 {
		t.Errorf("the seq is %d, %v", seq, err)
	}
	var ids []string
	for _, r := range loaded {
		ids = append(ids, r.Job.ID)
		if len(r.Events) == 0 || r.Pull == nil && r.Prewarm == nil {
			t.Errorf("record %s lacks its events or its request: %+v", r.Job.ID, r)
		}
		switch r.Job.Kind {
		case "run":
			if r.Run == nil || r.Run.Name == "" || r.Run.Request.Image == "" {
				t.Errorf("the run %s lacks its request: %+v", r.Job.ID, r.Run)
			}
		case "prewarm":
			if len(r.Job.Children) != 2 || len(r.Prewarm.Skipped) != 1 || r.Key == "" || len(r.Fingerprint) == 0 {
				t.Errorf("the prewarm is %+v with the key %q", r.Prewarm, r.Key)
			}
		}
	}
	if !slices.Equal(ids, slices.Sorted(slices.Values(unended))) {
		t.Errorf("%q have not ended, not %q", ids, unended)
	}
	keys := 0
	for id, want := range ended {
		r, err := s.Record(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := marshal(t, r.Job); got != want {
			t.Errorf("job %s is\n%s\nnot\n%s", id, got, want)
		}
		if n := len(r.Events); n < 3 || r.Events[n-1].Type != "result" {
			t.Errorf("job %s has the events %+v", id, r.Events)
		}
		if r.Key != "" {
			keys++
			if found, err := s.Keyed(r.Key); err != nil || found.Job.ID != id {
				t.Errorf("the key of job %s is that of %s, %v", id, found.Job.ID, err)
			}
		}
	}
	if keys != 3 {
		t.Errorf("%d jobs that have ended have keys", keys)
	}
	if last, err := s.Last(100, math.MaxInt64); err != nil || len(last) != len(ended) {
		t.Errorf("%d ended last, not %d: %v", len(last), len(ended), err)
	}
	for f, n := range map[puller.Filter]int{
		{Limit: 100}: len(ended), {State: puller.StateFailed}: 3, {Kind: "run"}: 2, {Kind: "pull", State: puller.StateCanceled}: 1,
		{Image: "registry.test/team/web:v1"}: 2,
	} {
		if jobs, err := s.Ended(f); err != nil || len(jobs) != n {
			t.Errorf("%+v chooses %d jobs, not %d: %v", f, len(jobs), n, err)
		}
	}
	private, whole, err := s.Private()
	if err != nil || len(private) != 1 || !whole {
		t.Errorf("the private images are %q, %v, %v", private, whole, err)
	}

	id := s.Instance()
	save(t, s, seq+1, storetest.NewRecord(1))
	if n, err := s.Prune(time.Now(), 100, math.MaxInt64); err != nil || n != len(ended) {
		t.Errorf("%d were pruned, not %d: %v", n, len(ended), err)
	}
	closeIt(t, s)
	s = b.open()
	if got := s.Instance(); got != id || len(id) < 20 {
		t.Errorf("the ID is %q, then %q", id, got)
	}
	if got, loaded, err := s.Load(); err != nil || got != seq+1 || len(loaded) != len(unended)+1 {
		t.Errorf("the next start finds seq %d and %d records, %v", got, len(loaded), err)
	}
	if b.log.Len() > 0 {
		t.Errorf("something is logged: %s", &b.log)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
