// Package sets keeps images on a host: named lists of them, which are pulled, looked after,
// and refreshed by their schedules. Each refresh is a prewarm job.
package sets

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/schedule"
	"github.com/towline/towline/puller/names"
)

// definition is what a set was asked to be, checked and with its defaults. It never changes.
type definition struct {
	keep.SetRequest
	when        schedule.Schedule
	fingerprint string // of the request
}

// check checks a request and fills in its defaults. The error is ErrInvalidRequest or
// ErrForbidden.
func (s *Sets) check(name string, r keep.SetRequest) (*definition, error) {
	d, err := s.define(name, r)
	if err != nil {
		return nil, err
	}
	checked, err := s.o.Service.CheckPrewarm(prewarmOf(d.SetRequest, d.Images))
	if err != nil {
		return nil, err
	}
	if len(checked.Images) == 0 {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "images: all services are skipped, and a set needs an image")
	}
	seen := make(map[[2]string]bool)
	var kept puller.Images
	for i, one := range d.Images {
		// The other defaults are those of the daemon at the time of a refresh.
		one.Image, one.Platform = checked.Images[i].Image, checked.Images[i].Platform
		if key := [2]string{one.Image, one.Platform}; !seen[key] {
			seen[key] = true
			kept = append(kept, one)
		}
	}
	// What was accepted is not held to the caller's rules again.
	d.Images, d.Rules = kept, nil
	return s.define(name, d.SetRequest)
}

// define fills in the defaults of a request, and reads its schedule. It asks nothing of
// anybody.
func (s *Sets) define(name string, r keep.SetRequest) (*definition, error) {
	when, err := schedule.New(schedule.Request{Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter, Window: r.Window})
	if err != nil {
		return nil, err
	}
	switch r.Policy {
	case "":
		r.Policy = puller.PolicyNewer
	case puller.PolicyNewer, puller.PolicyMissing:
	default:
		return nil, puller.Errorf(puller.ErrInvalidRequest, "policy: %q is not one of a set; use newer or missing", puller.Clip(string(r.Policy)))
	}
	if r.Priority == "" {
		r.Priority = puller.PriorityLow
	}
	if r.Protect == nil {
		r.Protect = new(true)
	}
	r.Images = slices.Clone(r.Images)
	var faults puller.ImageFaults
	for i := range r.Images {
		one := &r.Images[i]
		if one.Lease != "" {
			faults.Add(i, puller.Errorf(puller.ErrInvalidRequest, "lease: a set keeps its images itself; leave it out"))
		}
		if names.ParseName(one.Image).ID != "" && one.Policy == "" {
			one.Policy = puller.PolicyMissing // no registry knows an ID
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &definition{r, when.WithHost(s.o.Host, name), hex.EncodeToString(sum[:16])}, nil
}

// prewarmOf asks for images of a set.
func prewarmOf(r keep.SetRequest, images puller.Images) puller.PrewarmRequest {
	p := puller.PrewarmRequest{Images: images, Policy: r.Policy, Priority: r.Priority, Platform: r.Platform}
	p.Skipped, p.Caller, p.Rules = r.Skipped, r.Caller, r.Rules
	return p
}

// set is a set as it stands. Sets.mu guards it.
type set struct {
	name    string
	source  keep.SetSource
	file    string
	changed time.Time
	*definition
	images []*image

	lastRun time.Time // when the last refresh began
	due     time.Time // when the next one begins by itself; zero for never
	job     string    // of the last refresh
	running bool      // the job has not ended
	fault   string    // why the last refresh could not begin
}

// image is an image of a set as it stands.
type image struct {
	puller.PullRequest               // as the set asks for it
	policy             puller.Policy // its own, or the set's

	state   keep.SetState
	reason  string
	digest  string
	checked time.Time
	job     string // the last pull of it

	listed   string    // the ID that the engine's list had under its name at the last look
	proven   string    // the digest that the last refresh has proven
	failures int       // pulls in a row that have failed
	retry    bool      // it is to be pulled though it is there: the last pull of it failed
	repairAt time.Time // not before that it is pulled again by itself
	busy     bool      // a job pulls it
	vanished bool      // somebody else has removed it, and it has not come again
	idle     bool      // a collection has removed it: it comes again with the next refresh
}

const notLooked = "not looked at yet"

// newImages returns the images of a definition. What is known of those of an older one stays.
func newImages(d *definition, old []*image) []*image {
	known := make(map[[2]string]*image)
	for _, i := range old {
		known[[2]string{i.Image, i.Platform}] = i
	}
	all := make([]*image, len(d.Images))
	for n, r := range d.Images {
		i := &image{state: keep.SetMissing, reason: notLooked}
		if was := known[[2]string{r.Image, r.Platform}]; was != nil {
			*i = *was
			i.busy = false
		}
		if i.PullRequest, i.policy = r, r.Policy; i.policy == "" {
			i.policy = d.Policy
		}
		all[n] = i
	}
	return all
}

// keys returns under what an image may be found that is in the set.
func (d *definition) keys() (keys []string) {
	for _, i := range d.Images {
		keys = append(keys, names.EngineRef(i.Image))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// plan says when the next refresh begins, given that the last one was at lastRun.
func (s *set) plan(now time.Time) {
	if s.lastRun.After(now) {
		s.lastRun = now // the clock was set back
	}
	if s.due = s.when.Next(s.lastRun); !s.due.IsZero() && s.due.Before(now) {
		s.due = s.when.Open(now) // it was missed
	}
}

// view returns the set in the form of the API, with its images. job is its refresh, if that
// goes on.
func (s *set) view(job *puller.Job) keep.Set {
	v := keep.Set{
		Name: s.name, Source: s.source, File: s.file,
		Schedule: s.Schedule, Timezone: s.Timezone, JitterSeconds: s.when.Jitter().Seconds(), Window: s.Window,
		Policy: s.Policy, Protect: *s.Protect, Priority: s.Priority,
		ChangedAt: s.changed, LastRun: s.lastRun, NextRun: utc(s.due), Job: s.job, Refreshes: s.running, Error: s.fault,
		Counts: make(map[keep.SetState]int), Skipped: s.Skipped,
	}
	for n, i := range s.images {
		one := keep.SetImage{
			Image: i.Image, Platform: i.Platform, State: i.state, Reason: i.reason, Digest: i.digest, CheckedAt: utc(i.checked), NextRun: utc(s.due), Job: i.job,
		}
		if (i.state != keep.SetPresent || i.retry) && !i.busy && i.repairAt.After(i.checked) && (s.due.IsZero() || i.repairAt.Before(s.due)) {
			one.NextRun = utc(i.repairAt)
		}
		switch {
		case job != nil && n < len(job.Images):
			follow(&one, job.Images[n])
		case i.busy:
			one.State = keep.SetPulling
		}
		v.Counts[one.State]++
		v.Images = append(v.Images, one)
	}
	return v
}

// follow has an image stand as the child of a refresh that goes on says.
func follow(one *keep.SetImage, child puller.ImageState) {
	one.Job = child.Job
	switch child.State {
	case puller.StateQueued:
		one.Reason = "its pull waits in the queue"
	case puller.StateActive:
		one.State, one.Reason = keep.SetPulling, ""
	case puller.StateSucceeded:
		one.State, one.Reason = keep.SetPresent, ""
	default:
		if one.State = keep.SetFailed; one.Digest != "" {
			one.State = keep.SetStale
		}
		if child.Error != nil {
			one.Reason = child.Error.Message
		}
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
