package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream/pullstream"
)

// The jobs of a store are of two weeks, one after the other.
var (
	storeEnd  = time.Now().Add(-time.Hour).UTC()
	storeSpan = 14 * 24 * time.Hour
)

func digest(what string, n int) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Append(nil, what, n)))
}

func keptImage(n int) string { return fmt.Sprintf("registry.example.com/team/app-%d:v1.%d", n%5, n%5) }

func idAt(t time.Time, n int) string {
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], uint64(n))
	return ulid.MustNew(ulid.Timestamp(t), bytes.NewReader(entropy[:])).String()
}

func deepCursor() string { return idAt(storeEnd.Add(-storeSpan/2), 0) }

// waitingRecord returns the nth of so many records, as one that waits.
func waitingRecord(n, of int) store.Record {
	created := storeEnd.Add(-storeSpan / time.Duration(of) * time.Duration(of-n))
	retries := 3
	r := store.Record{
		Job: puller.Job{
			ID: idAt(created, n), Kind: puller.JobPull, State: puller.StateQueued, Image: keptImage(n),
			Policy: puller.PolicyMissing, Priority: puller.PriorityNormal, CreatedAt: created,
		},
		Pull: &puller.PullRequest{
			Image: keptImage(n), Policy: puller.PolicyMissing, Priority: puller.PriorityNormal,
			Timeout: puller.Duration(30 * time.Minute), Retries: &retries,
		},
		Caller: "uid:1000", Fingerprint: fmt.Append(nil, digest("request", n)[7:39]),
	}
	if n%4 == 0 {
		r.Key = fmt.Sprintf("build-%d", n)
	}
	r.Events = []puller.Event{{Seq: uint64(10*n + 1), Time: created, Type: "state", Job: r.Job.ID, State: puller.StateQueued}}
	return r
}

// endedRecord returns the record as it is when its job has ended: one in
// eight failed.
func endedRecord(r store.Record, n int) store.Record {
	j := &r.Job
	j.State, j.Attempt, j.StartedAt, j.FinishedAt = puller.StateSucceeded, 1, j.CreatedAt.Add(1234567*time.Nanosecond), j.CreatedAt.Add(12345678901*time.Nanosecond)
	j.Progress = &pullstream.Totals{Downloaded: 123456789, Extracted: 345678901, Total: 123456789, Layers: 7, LayersDone: 7, LayersExisting: 2, Rate: 34567890}
	j.Timings = &puller.Timings{Connection: puller.Connection{Reused: true, IdleSeconds: 1.234567891}, FirstByte: 0.345678912, Stream: 11.234567891, Verify: 0.001234567}
	tell := func(e puller.Event) {
		e.Seq, e.Job = r.Events[0].Seq+uint64(len(r.Events)), j.ID
		r.Events = append(r.Events, e)
	}
	for _, phase := range []puller.Phase{puller.PhaseResolving, puller.PhasePulling, puller.PhaseVerifying} {
		tell(puller.Event{Time: j.StartedAt.Add(time.Millisecond), Type: "state", State: puller.StateActive, Phase: phase, Attempt: 1})
	}
	if n%8 == 0 {
		j.State = puller.StateFailed
		j.Error = &puller.JobError{Kind: puller.ErrNotFound, Message: j.Image + ": pull: Error response from daemon: manifest for " + j.Image + " not found: manifest unknown"}
		tell(puller.Event{Time: j.FinishedAt, Type: "notice", Message: "attempt 1 failed (registry_unavailable: received unexpected HTTP status: 503); the next one begins in 1.2s"})
	} else {
		j.Result = &puller.Result{ImageID: digest("image", n), Digest: digest("manifest", n), Size: 345678901, Source: puller.SourcePulled, Downloaded: 123456789, DurationSeconds: 12.344444334}
	}
	tell(puller.Event{Time: j.FinishedAt, Type: "state", State: j.State, Attempt: 1})
	tell(puller.Event{Time: j.FinishedAt, Type: "result"})
	return r
}
