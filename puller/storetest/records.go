package storetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream/pullstream"
)

// epoch is when the first record is from.
var epoch = time.Date(2026, 11, 21, 14, 0, 0, 123456789, time.UTC)

// RecordID returns the ID of the nth record. IDs are in the order of n.
func RecordID(n int) string { return fmt.Sprintf("01KAKM%020d", n) }

// NewRecord returns the nth record of a pull that waits, as Submit has it
// saved. It holds an idempotency key of its own.
func NewRecord(n int) store.Record {
	created := epoch.Add(time.Duration(n) * time.Second)
	retries := 3
	image := fmt.Sprintf("registry.test/team/app-%d:v1", n%7)
	r := store.Record{
		Job: puller.Job{
			ID: RecordID(n), Kind: "pull", State: puller.StateQueued, Image: image, Platform: "linux/amd64",
			Policy: puller.PolicyAlways, Priority: puller.PriorityNormal, CreatedAt: created,
		},
		Pull: &puller.PullRequest{
			Image: image, Platform: "linux/amd64", Policy: puller.PolicyAlways, Priority: puller.PriorityNormal,
			Timeout: puller.Duration(30 * time.Minute), Retries: &retries,
		},
		Caller: "ci", Private: n%2 == 0, Key: fmt.Sprintf("key-%d", n), Fingerprint: []byte{0, 1, 2, 0xff, byte(n)},
	}
	r.Events = []puller.Event{{Seq: uint64(10*n + 1), Time: created, Type: "state", Job: r.Job.ID, State: puller.StateQueued}}
	return r
}

// EndRecord returns the record as it is when its job has ended so at a time,
// with all that a job can have.
func EndRecord(r store.Record, state puller.State, at time.Time) store.Record {
	j := &r.Job
	j.State, j.Attempt, j.StartedAt, j.FinishedAt = state, 2, j.CreatedAt.Add(time.Millisecond), at
	eta := int64(4)
	j.Progress = &pullstream.Totals{Downloaded: 1 << 40, Extracted: 12, Total: 1 << 41, Layers: 3, LayersDone: 2, LayersExisting: 1, Rate: 99, ETASeconds: &eta}
	j.Timings = &puller.Timings{Connection: puller.Connection{Reused: true, IdleSeconds: 0.1}, FirstByte: 1.0 / 3, Stream: 2.5, Verify: 1e-9}
	if state == puller.StateSucceeded {
		j.Result = &puller.Result{ImageID: "sha256:1", Digest: "sha256:2", Size: 3, Source: puller.SourcePulled, Downloaded: 4, DurationSeconds: 5.000000001}
	} else {
		j.Error = &puller.JobError{Kind: puller.ErrRateLimited, Message: "<too many> & \"more\" 日本", Retryable: true, RetryAfterSeconds: 0.7}
	}
	seq := r.Events[0].Seq
	r.Events = append(r.Events[:1:1],
		puller.Event{Seq: seq + 1, Time: j.StartedAt, Type: "state", Job: j.ID, State: puller.StateActive, Phase: puller.PhaseResolving, Attempt: 1},
		puller.Event{Seq: seq + 2, Time: j.StartedAt, Type: "notice", Job: j.ID, Message: "the registry asks to wait", RetryAfterSeconds: 12.25},
		puller.Event{Seq: seq + 3, Time: at, Type: "state", Job: j.ID, State: state, Attempt: 2},
		puller.Event{Seq: seq + 4, Time: at, Type: "result", Job: j.ID},
	)
	return r
}

// prewarmed returns the record as that of a prewarm, which has no image.
func prewarmed(r store.Record) store.Record {
	r.Pull, r.Prewarm = nil, &store.Prewarm{FailFast: true}
	r.Job.Kind, r.Job.Image, r.Job.Platform = "prewarm", "", ""
	r.Job.Children = []string{RecordID(900_001), RecordID(900_002)}
	r.Job.Images = []puller.ImageState{
		{Job: RecordID(900_001), Image: "registry.test/a:v1", State: puller.StateSucceeded, Source: puller.SourceUpToDate},
		{Image: "registry.test/b:v1", State: puller.StateFailed, Error: &puller.JobError{Kind: puller.ErrNotFound, Message: "no"}},
		{Service: "db", State: "skipped", Reason: "it is built"},
	}
	return r
}

// someRecords returns n records that have ended, of any kind, state and image.
// Their ends are in another order than their IDs, and some are at one time.
func someRecords(rng *rand.Rand, n int) []store.Record {
	states := []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateCanceled}
	records := make([]store.Record, n)
	for i := range records {
		r := NewRecord(i)
		switch rng.IntN(4) {
		case 0:
			r = prewarmed(r)
		case 1:
			r.Job.Kind = "run"
		}
		if rng.IntN(2) == 0 {
			r.Key = ""
		}
		records[i] = EndRecord(r, states[rng.IntN(len(states))], epoch.Add(time.Duration(rng.IntN(n))*time.Second))
	}
	return records
}
